#!/bin/sh
# The weights first, with their progress in the log, then the service. Any other command runs as it is, for example
# `python -m clipdiy weights check`.
set -eu

if [ "${1:-}" = gunicorn ]; then
    python -m clipdiy weights fetch \
        --preset "${CLIPDIY_PRESET:-paper}" \
        ${CLIPDIY_CLIP:+--clip "$CLIPDIY_CLIP"} \
        ${CLIPDIY_FOUND:+--found "$CLIPDIY_FOUND"}
fi
exec "$@"
