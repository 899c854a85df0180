# `replicate` and the client programs it calls, which must not be older than either server.
FROM swift:6.3-bookworm AS build
RUN apt-get update \
  && apt-get install -y --no-install-recommends libpq-dev pkg-config \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Package.swift ./
RUN swift package resolve
# The tests' folders too: a package is not loaded without the folder of each of its targets.
COPY Sources Sources
COPY Tests Tests
COPY integration integration
RUN swift build -c release --product replicate --static-swift-stdlib \
  && install -s "$(swift build -c release --show-bin-path)/replicate" /usr/local/bin/replicate

FROM debian:trixie-slim
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    ca-certificates libpq5 postgresql-client-17 \
  && rm -rf /var/lib/apt/lists/* \
  && useradd --system --create-home replicate
# Debian's /usr/bin/pg_dump is a wrapper that chooses among the installed versions: there is one.
ENV PATH=/usr/lib/postgresql/17/bin:$PATH
COPY --from=build /usr/local/bin/replicate /usr/local/bin/replicate
USER replicate
ENTRYPOINT ["replicate"]
