"""What a classifier sees of recordings: a network's layer or MFCC statistics, cut into windows."""
