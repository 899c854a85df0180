# The built tests with the client programs of the newest server; `run-tests` runs them on servers that are
# given.
FROM swift:6.3-bookworm AS build
RUN apt-get update \
  && apt-get install -y --no-install-recommends libpq-dev pkg-config \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Package.swift ./
RUN swift package resolve
COPY Sources Sources
COPY Tests Tests
COPY integration integration
# Beside the tests and the program, what they need of the toolchain.
RUN swift build --build-tests \
  && mkdir -p /tests/lib \
  && cp .build/debug/replicate .build/debug/replicatePackageTests.xctest /tests/ \
  && ldd /tests/replicatePackageTests.xctest | awk '/\/swift\/linux\//{print $3}' | xargs cp -t /tests/lib

FROM debian:trixie-slim
RUN apt-get update \
  && export DEBIAN_FRONTEND=noninteractive \
  && apt-get install -y --no-install-recommends postgresql-common \
  && echo 'create_main_cluster = false' >>/etc/postgresql-common/createcluster.conf \
  && apt-get install -y --no-install-recommends libpq5 openssl postgresql-17 \
  && rm -rf /var/lib/apt/lists/*
ENV PATH=/usr/lib/postgresql/17/bin:$PATH LD_LIBRARY_PATH=/tests/lib
COPY --from=build /tests /tests
# Where the tests were built, since they find the scripts beside their own sources.
COPY integration /src/integration
WORKDIR /src
ENTRYPOINT ["/src/integration/images/run-tests"]
