# A PostgreSQL server for the tests: Debian's own packages and nothing prepared; `serve` does the rest at
# start.
ARG BASE
FROM ${BASE}
ARG POSTGRESQL
# No cluster with the package: `serve` makes the one that is wanted (see pg_createcluster(8)).
RUN apt-get update \
  && export DEBIAN_FRONTEND=noninteractive \
  && apt-get install -y --no-install-recommends postgresql-common \
  && echo 'create_main_cluster = false' >>/etc/postgresql-common/createcluster.conf \
  && apt-get install -y --no-install-recommends \
    "postgresql-${POSTGRESQL}" openssl fscrypt gocryptfs fuse3 e2fsprogs mount util-linux \
  && rm -rf /var/lib/apt/lists/*
COPY integration/encrypted-storage integration/images/serve /usr/local/bin/
# The server's fast shutdown.
STOPSIGNAL SIGINT
EXPOSE 5432
ENTRYPOINT ["serve"]
