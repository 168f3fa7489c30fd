"""`make bench-scale`: what two million videos would take, from rates and burdens measured on this machine."""
