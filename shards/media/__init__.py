"""Any file that FFmpeg reads, none of them trusted: opened as a container, and its sound as a waveform."""
