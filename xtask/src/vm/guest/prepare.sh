#!/bin/sh
# Makes a bootable root in $1, with the packages $2 (separated by commas) from the start and all
# others added. Called in a mount namespace of its own: what debootstrap mounts goes with it.
set -eu
root=$1
base=$2
shift 2

debootstrap --variant=minbase --include="$base" "$SUITE" "$root" "$MIRROR"

cat >"$root/etc/apt/sources.list" <<SOURCES
deb $MIRROR $SUITE main
deb $SECURITY_MIRROR $SUITE-security main
SOURCES
# A service that is installed into a folder must not be started on the host.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
# The disks and the root's file system are all that the machine needs before its root is there.
mkdir -p "$root/etc/initramfs-tools/conf.d"
printf 'MODULES=list\nCOMPRESS=zstd\n' >"$root/etc/initramfs-tools/conf.d/stockade"
printf '%s\n' virtio_pci virtio_blk ext4 >"$root/etc/initramfs-tools/modules"

export DEBIAN_FRONTEND=noninteractive
chroot "$root" apt-get -q update
chroot "$root" apt-get -q install --yes --no-install-recommends "$@"
chroot "$root" apt-get clean
rm -rf "$root"/var/lib/apt/lists/* "$root/usr/sbin/policy-rc.d"

echo stockade-vm >"$root/etc/hostname"
echo '127.0.0.1 localhost stockade-vm' >"$root/etc/hosts"
echo '/dev/vda / ext4 rw,noatime 0 0' >"$root/etc/fstab"
# There is no network: a name that is asked for fails at once.
rm -f "$root/etc/resolv.conf"
: >"$root/etc/resolv.conf"
install -m 755 "$GUEST/stockade-vm" "$root/usr/local/sbin/stockade-vm"
install -m 644 "$GUEST/stockade-vm.service" "$root/etc/systemd/system/stockade-vm.service"
chroot "$root" systemctl -q enable stockade-vm.service
# On a busy host devices come late, and the host's limit is the one that counts.
mkdir -p "$root/etc/systemd/system.conf.d"
printf '[Manager]\nDefaultDeviceTimeoutSec=infinity\n' >"$root/etc/systemd/system.conf.d/stockade-vm.conf"
# What only costs the emulated processor time, or would run in the middle of a test.
chroot "$root" systemctl -q mask \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer getty@tty1.service man-db.timer prometheus.service \
    serial-getty@ttyS0.service systemd-logind.service systemd-update-utmp-runlevel.service
