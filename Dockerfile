# The image of Portway: one static binary, the certificates of public authorities, the time zones, a busybox for shells and health checks.
#
#   docker/build                                 with the Rust toolchain of this machine; needs no registry
#   DOCKER_BUILDKIT=1 docker build -t portway .  everything inside Docker

# What all of the images below have in common.
FROM scratch AS shell
# `portway rollout` finds the edge by it.
LABEL org.opencontainers.image.title=Portway
ENV PATH=/usr/local/bin:/bin
EXPOSE 80
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s --retries=3 CMD ["portway", "healthcheck"]
ENTRYPOINT ["/entrypoint.sh"]

# From a folder that docker/assemble has filled. The builder of older engines works from the top down and stops here when told to.
FROM shell AS prebuilt
COPY target/image/ /

FROM rust:1.95-alpine AS build
RUN apk add --no-cache build-base busybox-static ca-certificates-bundle cmake linux-headers perl tzdata
WORKDIR /portway
COPY . .
RUN cargo build --release --locked --bin portway
RUN docker/assemble target/release/portway /image

FROM shell
COPY --from=build /image/ /
