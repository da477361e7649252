# Makes .venv with the package and the given extras; sourced by demo.sh and test.sh.
# Does nothing when .venv already holds what pyproject.toml and constraints.txt ask for.

set_up() {
    local extras="$1" wanted stamp
    stamp=".venv/installed-${extras//,/-}"
    wanted="$(cat pyproject.toml constraints.txt | cksum)"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return
    fi
    local python="${PYTHON:-python3}"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "nas-optuna needs Python 3.11 or newer, $python is $("$python" --version); set PYTHON." >&2
        return 1
    }
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable ".[$extras]"
    echo "$wanted" > "$stamp"
}
