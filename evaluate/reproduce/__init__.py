"""`make reproduce`: the paper's Tables 3 to 7 and Figures 2 to 6 from whatever runs and data are at hand."""
