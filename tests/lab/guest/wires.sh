#!/bin/sh
# Two ways to one target with two controllers: a VLAN on a cable, and a bond of two cables to a bridge.
# wires.sh make | clear | alua GROUP STATE | pull N | plug N | mute | speak | kill | revive
# The far ends are in the network namespace "far"; cable N is wireN here and farN there.
set -eu
IQN=iqn.2026-11.io.mooring.lab:health
CORE=/sys/kernel/config/target
TARGET=$CORE/iscsi/$IQN
case "$1" in
make)
    modprobe -a 8021q bonding veth bridge iscsi_tcp dm-multipath target_core_mod target_core_file iscsi_target_mod
    ip netns add far
    ip -n far link set lo up
    for n in 1 2 3; do
        ip link add "wire$n" type veth peer name "far$n" netns far
        ip -n far link set "far$n" up
    done
    ip link set wire1 up
    ip link add link wire1 name wire1.12 type vlan id 12
    ip addr add 10.19.1.1/24 dev wire1.12
    ip link set wire1.12 up
    ip -n far link add link far1 name far1.12 type vlan id 12
    ip -n far addr add 10.19.1.2/24 dev far1.12
    ip -n far link set far1.12 up
    ip link add bond9 type bond mode active-backup miimon 100
    for n in 2 3; do
        ip link set "wire$n" master bond9
        ip link set "wire$n" up
    done
    ip addr add 10.19.2.1/24 dev bond9
    ip link set bond9 up
    ip -n far link add br9 type bridge
    for n in 2 3; do ip -n far link set "far$n" master br9; done
    ip -n far addr add 10.19.2.2/24 dev br9
    ip -n far link set br9 up
    mkdir -p /lab "$CORE/iscsi" "$CORE/core/fileio_90/health"
    truncate -s 64M /lab/health.img
    store=$CORE/core/fileio_90/health
    echo "fd_dev_name=/lab/health.img,fd_dev_size=67108864" >"$store/control"
    echo b1000001 >"$store/wwn/vpd_unit_serial"
    echo 1 >"$store/enable"
    number=11
    for group in left right; do
        mkdir "$store/alua/$group"
        echo $number >"$store/alua/$group/tg_pt_gp_id"
        # implicit only: the kernel's handler would set a path that it activates to optimized again
        echo 1 >"$store/alua/$group/alua_access_type"
        number=$((number + 1))
    done
    for n in 1 2; do
        group=$TARGET/tpgt_$n
        mkdir -p "$group/lun/lun_0"
        ln -s "$store" "$group/lun/lun_0/disk"
        [ $n = 1 ] && name=left || name=right
        echo "$name" >"$group/lun/lun_0/alua_tg_pt_gp"
        echo 0 >"$group/attrib/authentication"
        echo 0 >"$group/attrib/demo_mode_write_protect"
        echo 1 >"$group/attrib/generate_node_acls"
        echo 1 >"$group/attrib/cache_dynamic_acls"
        nsenter --net=/run/netns/far mkdir "$group/np/10.19.$n.2:3269"
        echo 1 >"$group/enable"
    done
    ;;
alua) echo "$3" >"$CORE/core/fileio_90/health/alua/$2/alua_access_state" ;;
pull) ip -n far link set "far$2" down ;;
plug) ip -n far link set "far$2" up ;;
mute) tc -n far qdisc add dev far1.12 root netem loss 100% ;;
speak) tc -n far qdisc del dev far1.12 root ;;
kill) echo 0 >"$TARGET/tpgt_1/enable" ;;
revive) echo 1 >"$TARGET/tpgt_1/enable" ;;
clear)
    for n in 1 2; do
        group=$TARGET/tpgt_$n
        echo 0 >"$group/enable" || true
        rm -f "$group/lun/lun_0/disk"
        rmdir "$group/lun/lun_0" "$group/np/10.19.$n.2:3269" "$group"
    done
    rmdir "$TARGET" "$CORE/core/fileio_90/health/alua/left" "$CORE/core/fileio_90/health/alua/right" \
        "$CORE/core/fileio_90/health"
    ip link del bond9
    ip netns del far
    ;;
*) exit 2 ;;
esac
