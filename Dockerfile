# The server in a small image. Dependencies are compiled in a separate layer, which is cached until they change.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY crates crates
RUN mkdir -p src benches tests/torture && echo 'fn main() {}' > src/main.rs \
 && touch src/lib.rs benches/micro.rs tests/torture/main.rs \
 && cargo build --release --locked \
 && rm -rf src
COPY README.md ./
COPY src src
COPY demo/dist demo/dist
RUN touch src/main.rs src/lib.rs && cargo build --release --locked && strip target/release/roomlog

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/roomlog /usr/local/bin/roomlog
ENV ROOMLOG_SERVER__LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/roomlog", "doctor", "--ready"]
ENTRYPOINT ["/usr/local/bin/roomlog"]
CMD ["serve"]
