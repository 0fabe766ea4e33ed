import sys

# OpenVINO's import reports itself over the network where this package is found (opt-out). A service that holds
# patients' data reports nothing to anybody, so the import finds none and takes the stub that it brings along.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
