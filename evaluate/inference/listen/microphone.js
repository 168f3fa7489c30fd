// The microphone's samples, float in [-1, 1], in blocks of 2048: run by the browser beside the page.
class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(2048);
    this.filled = 0;
  }

  process([[channel]]) {
    if (!channel) return true;
    this.block.set(channel, this.filled);  // 128 at a time
    this.filled += channel.length;
    if (this.filled === this.block.length) {
      this.port.postMessage(this.block);
      this.filled = 0;
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);
