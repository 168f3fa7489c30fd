"""Networks of other libraries (timm, open_clip): how each is built, and what the library itself says of it."""
