#!/bin/sh
# Unpacks Debian 12's ffmpeg 5.1 into a folder, without installing it, and prints the path of its program. apt must be Debian 12's.
set -eu
mkdir -p "$1" && cd "$1"
root=$PWD
if [ ! -x ffmpeg ]; then
    case "$(apt-cache policy ffmpeg 2> /dev/null)" in *Candidate:\ *:5.1.*) ;; *) exit 1 ;; esac
    mkdir -p packages/partial
    apt-get install -y -qq --download-only --reinstall --no-install-recommends -o Debug::NoLocking=1 \
        -o Dir::Cache::archives="$root/packages" ffmpeg >&2
    for package in packages/*.deb; do dpkg -x "$package" .; done
    libraries=$root/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH 2> /dev/null || echo "$(uname -m)-linux-gnu")
    folders=$libraries:$libraries/blas:$libraries/lapack:$libraries/pulseaudio:$root/lib/${libraries##*/}
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s/usr/bin/ffmpeg "$@"\n' "$folders" "$root" > ffmpeg.part
    chmod +x ffmpeg.part && ./ffmpeg.part -version > /dev/null && mv ffmpeg.part ffmpeg
fi
echo "$root/ffmpeg"
