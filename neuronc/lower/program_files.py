"""File names inside a program's folder."""

STABLEHLO = "program.mlir"
HLO = "program.hlo.pb"
NEURON_HLO = "neuron.hlo.pb"
SIGNATURE = "signature.json"
EXECUTABLE = "cpu.exe"
KEPT = (STABLEHLO, HLO, NEURON_HLO, SIGNATURE, EXECUTABLE)
"""What stays in the artifact; the rest of a job's folder is scratch."""

NEFF = "program.neff"
COMPILER_RECORD = "neuronx-cc.json"
COMPILER_LOG = "neuronx-cc.log"
COMPILED = (NEFF, COMPILER_RECORD, COMPILER_LOG)
"""What neuronx-cc adds: the program, how it was compiled, and what the compiler said."""

JOB = "job.json"
RESULT = "result.json"
LOG = "worker.log"
