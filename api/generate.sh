#!/bin/sh
# Generates the Go code beside each .proto of this directory. It wants protoc (Debian:
# protobuf-compiler, libprotobuf-dev) and protoc-gen-go and protoc-gen-go-grpc in PATH;
# `make generate` builds the two plugins from tools/go.mod and calls this script.
#
# protoc's own version is left out of the output (as in "// 	protoc  v3.21.12"), so that another
# release of Debian does not make the committed code look stale.
set -eu
cd "$(dirname "$0")"

for tool in protoc protoc-gen-go protoc-gen-go-grpc; do
	command -v "$tool" >/dev/null || { echo "generate.sh: $tool is not in PATH" >&2; exit 1; }
done

protos=$(find . -name '*.proto' | LC_ALL=C sort)
# shellcheck disable=SC2086 # a list of paths without spaces
protoc -I . --go_out=. --go_opt=paths=source_relative \
	--go-grpc_out=. --go-grpc_opt=paths=source_relative $protos

find . -name '*.pb.go' -exec sed -i -e '/^\/\/[ 	-]*protoc  *v[0-9]/d' {} +
