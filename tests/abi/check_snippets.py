#!/usr/bin/env python3
"""Every C snippet of README.md and docs/ compiles against the public headers, without a warning.

    check_snippets.py ROOT [--selftest]

A snippet leaves declarations out; what its names stand for is listed here.
"""
import re
import subprocess
import sys
from pathlib import Path

NAMES = '''advrob_context *ctx; advrob_dataset *train, *test, *images; advrob_model *base, *small, *model, *quantized;
advrob_options *o, *fit_options, *apgd, *square, *plot, *dashed, *check, *pgd; advrob_compressor *prune, *quant;
advrob_finetune *fit; advrob_engine *engine; advrob_attack *attack; advrob_target *target; advrob_report *r, *report;
int64_t n; int32_t shape[3]; const float *x, *pixels; float *logits, *adversarial; const int32_t *y;
int32_t *predictions; const uint8_t *bytes; const char *captions; const double *sparsity, *clean, *clean_low;
const double *clean_high, *robust_low, *robust_high; int judge;'''
# A name that stands for something else in one file.
ROBUST = {'docs/report.md': 'const double *robust;'}
COMMAND = 'gcc -x c -std=c11 -Wall -Wextra -Werror -Wno-unused -Wno-unused-parameter -fsyntax-only'.split()


def snippets(root):
    """File, line and text of each."""
    for path in [root / 'README.md', *sorted((root / 'docs').glob('*.md'))]:
        text = path.read_text()
        for match in re.finditer(r'^```c\n(.*?)^```', text, re.M | re.S):
            yield str(path.relative_to(root)), text[:match.start()].count('\n') + 2, match.group(1)


def failure(root, name, line, snippet):
    """What the compiler says of a snippet; '' for nothing."""
    outside = re.compile(r'^(#.*?|static .*?^})$', re.M | re.S)  # inclusions and functions
    body = outside.sub(lambda match: '\n' * match.group().count('\n'), snippet)
    program = (f'#include <advrob/advrob.h>\n{NAMES} {ROBUST.get(name, "double robust;")}\n' +
               ''.join(f'{match.group()}\n' for match in outside.finditer(snippet)) +
               f'void snippet(void);\nvoid snippet(void) {{\n#line {line} "{name}"\n{body}}}\n')
    done = subprocess.run([*COMMAND, '-I', root / 'include', '-'], input=program, text=True,
                          capture_output=True)
    return done.stderr if done.returncode else ''


def main():
    root = Path(sys.argv[1]).resolve()
    if '--selftest' in sys.argv:
        planted = ['advrob_model_save(small);\n', 'advrob_no_such(ctx);\n',
                   'advrob_model_save(train, "x");\n']
        missed = [text for text in planted if not failure(root, 'planted.md', 1, text)]
        print('\n'.join(missed) or f'{len(planted)} planted defects caught')
        return bool(missed)
    found = list(snippets(root))
    failures = [text for text in (failure(root, *snippet) for snippet in found) if text]
    print('\n'.join(failures) or f'{len(found)} snippets compile')
    return bool(failures or not found)


if __name__ == '__main__':
    sys.exit(main())
