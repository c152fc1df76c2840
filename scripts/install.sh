# Sourced by the other scripts: makes or uses a virtual environment and installs the project into it.
#   VOXEL_EXT_TORCH   what to give to pip for PyTorch; default torch==2.13.0. On Linux that build needs the CUDA
#                     libraries (gigabytes); for the CPU's alone, or another CUDA version, name the index of that build,
#                     as PyTorch's site gives it: VOXEL_EXT_TORCH="torch==2.13.0 --index-url <index>"
#   VOXEL_EXT_VENV    folder of the environment to make where none is active; default .venv
install_project() {
    local extras=$1 python venv constraints status
    if [ -z "${VIRTUAL_ENV:-}" ] && { [ -z "${CONDA_PREFIX:-}" ] || [ "${CONDA_DEFAULT_ENV:-}" = base ]; }; then
        venv=${VOXEL_EXT_VENV:-.venv}
        if [ ! -x "$venv/bin/python" ]; then
            python=$(command -v python3.11 || command -v python3 || command -v python || true)
            check_python "${python:-python3}" || return 1
            echo "Making the virtual environment $venv"
            "$python" -m venv "$venv" || return 1
        fi
        # shellcheck disable=SC1091
        . "$venv/bin/activate"
    fi
    check_python python || return 1
    echo "Installing PyTorch and the project with its tested versions (minutes on a fresh machine)"
    constraints=$(mktemp)
    grep -v '^torch==' constraints.txt >"$constraints"
    status=0
    # shellcheck disable=SC2086
    python -m pip install --quiet --disable-pip-version-check ${VOXEL_EXT_TORCH:-torch==2.13.0} &&
        python -m pip install --quiet --disable-pip-version-check --constraint "$constraints" --editable ".[$extras]" ||
        status=$?
    rm -f "$constraints"
    return $status
}

check_python() {
    if ! "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "Python 3.11 or newer is needed; found: $("$1" --version 2>&1 || echo none) ($1)" >&2
        return 1
    fi
}
