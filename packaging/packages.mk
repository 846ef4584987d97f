# Cross-builds and packages. Each target installs what it needs on Debian and keeps its compiler in
# .toolchain; `LINKER=zig` links for glibc 2.28 instead of 2.36. The binary's path is printed.

.PHONY: build-amd64 build-arm64 build-armhf build-armv6 debs test-arm test-packages test-device

build-amd64 build-arm64 build-armhf: build-%:
	packaging/cargo $* build --release
	packaging/check-binary $$(packaging/cargo $* path)

build-armv6: # the first Pi Zero and Pi 1; static, so it runs on every newer one too
	packaging/cargo armv6 build --release
	packaging/check-binary $$(packaging/cargo armv6 path) none

debs:        # the Debian packages, into target/packages
	packaging/deb amd64
	packaging/deb arm64
	packaging/deb armhf

test-arm test-packages test-device: test-%:
	tests/run $*
