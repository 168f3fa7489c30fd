"""The networks, as lists of layers: SoundNet5 and SoundNet8 (Tables 1 and 2), and the autoencoder of Table 4."""
