#!/bin/sh
# Two cables: veth pairs between this host and a network namespace "san" where targets live.
# cables.sh make | pull N | plug N | clear
set -eu
case "$1" in
make)
    ip netns add san
    ip -n san link set lo up
    for n in 1 2; do
        ip link add "host$n" type veth peer name "san$n" netns san
        ip addr add "10.9.$n.1/24" dev "host$n"
        ip addr add "fd09:$n::1/64" dev "host$n" nodad
        ip -n san addr add "10.9.$n.2/24" dev "san$n"
        ip -n san addr add "fd09:$n::2/64" dev "san$n" nodad
        ip link set "host$n" up
        ip -n san link set "san$n" up
    done
    ;;
pull) ip -n san link set "san$2" down ;;
plug) ip -n san link set "san$2" up ;;
clear)
    ip netns del san
    ;;
*) exit 2 ;;
esac
