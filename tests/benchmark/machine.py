"""The machine, its peak, and which instructions the peers may use."""
import datetime
import json
import os
import pathlib
import platform
import re
import subprocess
import time

TICKS = os.sysconf('SC_CLK_TCK')
CAPS = {'ONEDNN_MAX_CPU_ISA': 'AVX2', 'ATEN_CPU_CAPABILITY': 'avx2',
        'MKL_ENABLE_INSTRUCTIONS': 'AVX2'}
PROBE = '''
import json, os, sys
import torch, torch._inductor.config
from torch._inductor.cpu_vec_isa import pick_vec_isa
if os.environ["CAPPED"] == "1":
    torch._inductor.config.cpp.simdlen = 256
x = torch.rand(4, 8, 8, 8)
torch.nn.Conv2d(8, 8, 3)(x)
torch.rand(64, 64) @ torch.rand(64, 64)
print("PROBE", json.dumps([torch.backends.cpu.get_cpu_capability(), str(pick_vec_isa())]))
'''


def environment(threads, capped, folder):
    """Of a peer's process."""
    found = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'CUDA_VISIBLE_DEVICES': '',
             'TORCHINDUCTOR_CACHE_DIR': str(folder / 'inductor'), 'PYTHONDONTWRITEBYTECODE': '1',
             'TORCHINDUCTOR_COMPILE_THREADS': '1', 'CAPPED': str(int(capped))}
    return {**found, **CAPS} if capped else found


def probe(python, env):
    """What PyTorch's parts say of the instructions that they use."""
    run = subprocess.run([python, '-c', PROBE], text=True, check=True, capture_output=True,
                         env={**env, 'ONEDNN_VERBOSE': '1', 'MKL_VERBOSE': '1'})
    text = run.stdout
    aten, inductor = json.loads(re.search(r'^PROBE (.*)$', text, re.M).group(1))
    onednn = re.search(r'^onednn_verbose.*,cpu,isa:(.*)$', text, re.M)
    mkl = re.search(r'^MKL_VERBOSE .*architecture (.*?),? ?Lnx', text, re.M)
    return {'ATen': aten, 'inductor': inductor, 'oneDNN': onednn.group(1) if onednn else 'unknown',
            'MKL': mkl.group(1) if mkl else 'unknown'}


def beyond_avx2(said):
    return re.search(r'avx[-_ ]?512|amx|avx10', said, re.I) is not None


def refuse_uncapped(found):
    """A cap that does not take effect would only look fair."""
    for part, said in found.items():
        if beyond_avx2(said) or said == 'unknown':
            raise SystemExit(f'compare.py: {part} answers "{said}" to the cap at AVX2; '
                             '--uncapped measures without')


def uncapped(instructions):
    """What an engine in float32 may use that cannot be held to AVX2; '' if there is no more."""
    return 'AVX-512' if 'avx512f' in instructions.split() else ''


def peaks(program):
    """[on 1 thread, on 2 threads], GFLOP/s."""
    run = subprocess.run([program], text=True, check=True, capture_output=True)
    return [float(line) for line in run.stdout.split()]


def _all_cpus(stat='/proc/stat'):
    """Seconds that all CPUs have worked for anybody, or were taken from this machine by its host."""
    with open(stat, encoding='ascii') as file:
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


def _process(pid):
    """Seconds that a process and its ended children have worked."""
    text = pathlib.Path(f'/proc/{pid}/stat').read_text(encoding='ascii')
    return sum(map(int, text.rsplit(')', 1)[1].split()[11:15])) / TICKS


def foreign(workers, threads):
    """(the clock, seconds that others have worked for each CPU that we use): what is neither this
    process nor a worker. workers: process ids, the same at both ends of what is measured."""
    own = sum(map(_process, workers)) + sum(os.times()[:4])
    return time.monotonic(), (_all_cpus() - own) / min(threads, os.cpu_count())


def facts(source):
    text = pathlib.Path('/proc/cpuinfo').read_text(encoding='utf-8')
    name = re.search(r'^model name\s*: (.*)$', text, re.M)
    flags = re.search(r'^flags\s*: (.*)$', text, re.M)
    kept = [flag for flag in (flags.group(1).split() if flags else [])
            if re.match('avx|fma|amx', flag)]
    return {'commit': _git(source, 'describe', '--always', '--dirty', '--exclude=*'),
            'cpu': name.group(1) if name else platform.processor(), 'cores': os.cpu_count(),
            'instructions': ' '.join(kept), 'system': platform.release()}


def date():
    return datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%d %H:%M')


def _git(source, *words):
    run = subprocess.run(['git', '-C', str(source), *words], text=True, capture_output=True,
                         check=False)
    return run.stdout.strip() or 'unknown'
