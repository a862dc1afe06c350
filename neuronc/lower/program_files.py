"""File names inside a program's folder."""

STABLEHLO = "program.mlir"
HLO = "program.hlo.pb"
NEURON_HLO = "neuron.hlo.pb"
SIGNATURE = "signature.json"
EXECUTABLE = "cpu.exe"
NEFF = "program.neff"
COMPILER_RECORD = "neuronx-cc.json"
COMPILER_LOG = "neuronx-cc.log"
COMPILED = (NEFF, COMPILER_RECORD, COMPILER_LOG)
"""What neuronx-cc adds: the program, how it was compiled, and what the compiler said."""

JOB = "job.json"
RESULT = "result.json"
LOG = "worker.log"
SCRATCH = (JOB, RESULT, LOG)
"""What a job leaves beside the program's files; nothing else is taken away after it."""
