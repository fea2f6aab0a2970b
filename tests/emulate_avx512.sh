#!/usr/bin/env bash
# Runs the conformance tests of the AVX-512 kernels on a machine that has no AVX-512: in Bochs, an emulator of a whole PC (its
# "tigerlake" has VNNI, but neither bfloat16 nor AMX). Debian 12 on x86-64.
#
#     bash tests/emulate_avx512.sh [arguments of doctest, in place of the choice below]
#
# ADAINFER_EMULATION_SECONDS=N   give up after so long (3600)
set -euo pipefail
cd "$(dirname "$0")/.."
build=$PWD/build-emulated
pc=$build/pc
if [ $# -eq 0 ]; then
    set -- "--test-case=matmul*Avx512*,lanes*,words*,products*,gated*" --no-colors
fi

. examples/install_missing.sh
install_missing g++ cmake make ccache libeigen3-dev libxtensor-dev nlohmann-json3-dev libcli11-dev doctest-dev \
    bochs bochs-term bochsbios vgabios isolinux syslinux-common xorriso busybox-static cpio bsdutils

launcher=()
if command -v ccache >/dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG" -DCMAKE_EXE_LINKER_FLAGS=-static \
    "${launcher[@]}" -DADAINFER_BUILD_TESTS=ON -DADAINFER_BUILD_EXAMPLES=OFF -DADAINFER_BUILD_BENCHMARKS=OFF
cmake --build "$build" -j "$(nproc)" --target conformance_tests

# A PC that boots a Linux kernel, whose first program runs the tests and tells the serial port what they print.
rm -rf "$pc"
mkdir -p "$pc/root/bin" "$pc/root/proc" "$pc/root/dev" "$pc/disc" "$pc/kernel"
kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-[0-9]/ {print $2; exit}')
(cd "$pc/kernel" && apt-get download -q "$kernel" 2>/dev/null && dpkg-deb -x ./*.deb .)
cp "$pc"/kernel/boot/vmlinuz-* "$pc/disc/vmlinuz"
cp /bin/busybox "$pc/root/bin/busybox"
ln -s busybox "$pc/root/bin/sh"
cp "$build/tests/conformance_tests" "$pc/root/tests"
{
    echo '#!/bin/sh'
    echo 'busybox mount -t proc proc /proc; busybox mount -t devtmpfs dev /dev; exec > /dev/ttyS0 2>&1; echo; echo BEGIN'
    printf '/tests'
    printf ' %q' "$@"
    printf '\nresult=$?; echo; echo "END $result"; busybox sleep 1; busybox poweroff -f\n'
} > "$pc/root/init"
chmod +x "$pc/root/init"
(cd "$pc/root" && find . | cpio -o -H newc --quiet -R 0:0) > "$pc/disc/initrd"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$pc/disc/"
# What the kernel must not use of this CPU: Bochs has it otherwise than it says, and the kernel would turn AVX off or hang. Its
# clock counts instructions.
instructions=50000000
cat > "$pc/disc/isolinux.cfg" <<END
default tests
prompt 0
timeout 0
label tests
 kernel vmlinuz
 append initrd=initrd console=ttyS0,115200 quiet loglevel=0 mitigations=off nokaslr panic=-1 noxsaves clearcpuid=xsaves,xsavec,tsc_deadline_timer,pku,fsrm tsc_early_khz=$((instructions / 1000)) tsc=reliable clocksource=tsc no_timer_check
END
xorriso -as mkisofs -quiet -o "$pc/disc.iso" -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table "$pc/disc"
cat > "$pc/bochsrc" <<END
config_interface: textconfig
display_library: term, options="hideIPS"
memory: guest=1024, host=1024
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
cpu: model=tigerlake, count=1, ips=$instructions, reset_on_triple_fault=0, ignore_bad_msrs=1
clock: sync=none, time0=local
ata0-master: type=cdrom, path=$pc/disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$pc/serial
log: $pc/log
panic: action=fatal
error: action=ignore
sound: waveoutdrv=dummy
speaker: enabled=0
END
echo c > "$pc/debugger"  # Debian's Bochs waits for its debugger's "continue"
: > "$pc/serial"
echo "Booting; the tests print when they end."
setsid env TERM=vt100 script -qfc "bochs -q -f $pc/bochsrc -rc $pc/debugger" /dev/null < /dev/null > "$pc/screen" 2>&1 &
emulator=$!
trap 'kill -- -$emulator 2>/dev/null || true' EXIT
until grep -aq '^END [0-9]' "$pc/serial"; do
    kill -0 $emulator 2>/dev/null || { echo "Bochs ended early: see $pc/log and $pc/screen" >&2; exit 1; }
    [ "$SECONDS" -lt "${ADAINFER_EMULATION_SECONDS:-3600}" ] || { echo "Not done after $SECONDS s" >&2; exit 1; }
    sleep 1
done
tr -d '\r' < "$pc/serial" | sed -n '/^BEGIN$/,$p'
exit "$(tr -d '\r' < "$pc/serial" | awk '/^END [0-9]/ {print $2; exit}')"
