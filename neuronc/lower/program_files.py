"""File names inside a program's folder."""

STABLEHLO = "program.mlir"
HLO = "program.hlo.pb"
SIGNATURE = "signature.json"
EXECUTABLE = "cpu.exe"
KEPT = (STABLEHLO, HLO, SIGNATURE, EXECUTABLE)
"""What stays in the artifact; the rest of a job's folder is scratch."""

JOB = "job.json"
RESULT = "result.json"
LOG = "worker.log"
