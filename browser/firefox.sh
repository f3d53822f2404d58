#!/bin/sh
# Firefox, with what it compiled of itself when the image was built. Without it, it only starts later.
previous=
for word; do
    [ "$previous" = --profile ] && cp -R -p /app/profile/. "$word"
    previous=$word
done
exec /usr/bin/firefox-esr "$@"
