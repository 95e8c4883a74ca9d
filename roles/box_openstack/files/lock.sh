#!/bin/sh
# Make requirements.lock anew: the libraries as of the release, the services at their latest point release.
set -eu
cd "$(dirname "$0")"
set -- --exclude-newer 2026-04-15
for project in keystone openstack-placement glance neutron nova cinder swift; do
    set -- "$@" --exclude-newer-package "$project=2026-11-01"
done
# Universal: for each Python from 3.11 on. No header and no index: a lock names packages, not the place that they came from.
exec "${UV:-uv}" pip compile --quiet --generate-hashes --no-header --no-emit-index-url --universal --python-version 3.11 "$@" \
    requirements.in --output-file requirements.lock
