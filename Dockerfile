# The demo from start to end, in an image that holds nothing else:
#   docker build -t soundnet . && docker run --rm -v "$PWD/outputs:/soundnet/outputs" soundnet
# Another target instead of the demo: docker run --rm soundnet make test
# It takes 7 GB, as much again while it is built, and has no C++ compiler: it trains without torch.compile, and says so.
FROM debian:13-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates make python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /soundnet
COPY . .
RUN PIP_NO_CACHE_DIR=1 make setup

CMD ["make", "demo"]
