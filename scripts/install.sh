# Sourced by the other scripts: makes or uses a virtual environment and installs the project into it.
#   VOXEL_EXT_TORCH   what to give to pip for PyTorch; default torch==2.13.0. For another build, e.g.
#                     VOXEL_EXT_TORCH="torch==2.13.0 --index-url <index of that build>"
#   VOXEL_EXT_VENV    folder of the environment to make where none is active; default .venv
install_project() {
    local extras=$1
    if [ -z "${VIRTUAL_ENV:-}" ] && { [ -z "${CONDA_PREFIX:-}" ] || [ "${CONDA_DEFAULT_ENV:-}" = base ]; }; then
        local venv=${VOXEL_EXT_VENV:-.venv}
        if [ ! -x "$venv/bin/python" ]; then
            echo "Making the virtual environment $venv"
            "$(command -v python3.11 || command -v python3)" -m venv "$venv"
        fi
        # shellcheck disable=SC1091
        . "$venv/bin/activate"
    fi
    python - <<'PYTHON' || return 1
import sys
if sys.version_info < (3, 11):
    sys.exit(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]} ({sys.executable})")
PYTHON
    echo "Installing PyTorch and the project with its tested versions (minutes on a fresh machine)"
    local constraints
    constraints=$(mktemp)
    grep -v '^torch==' constraints.txt >"$constraints"
    # shellcheck disable=SC2086
    python -m pip install --quiet --disable-pip-version-check ${VOXEL_EXT_TORCH:-torch==2.13.0} &&
        python -m pip install --quiet --disable-pip-version-check --constraint "$constraints" --editable ".[$extras]"
    local status=$?
    rm -f "$constraints"
    return $status
}
