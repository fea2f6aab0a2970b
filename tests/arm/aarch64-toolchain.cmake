# Cross compiles for 64-bit Arm Linux and runs the result under emulation (Debian: g++-aarch64-linux-gnu, qemu-user-static). No
# -march: the kernels carry their instruction sets. Header-only dependencies are those of the host.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static)
file(GLOB CMAKE_PREFIX_PATH /usr/lib/*-linux-gnu/cmake)  # where Debian keeps some of their packages
