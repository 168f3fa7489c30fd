"""Whether a teacher's posteriors depend on the sound: a linear map learned on some videos and measured on others."""
