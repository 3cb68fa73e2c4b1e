#!/bin/sh
# Flags and subcommands are for Portway; whatever is a program of this image is run as it stands (`traefik --ping`, `sh -c ...`).
case "${1:-}" in
  */*) ;;
  '' | -*) set -- portway "$@" ;;
  *) [ -x "/usr/local/bin/$1" ] || [ -x "/bin/$1" ] || set -- portway "$@" ;;
esac
exec "$@"
