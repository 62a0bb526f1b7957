/* base: what every other folder stands on. Others include this header alone.
 *
 * Public status codes, option types and callback types come from include/advrob; base includes
 * nothing else of the library. */
#ifndef AR_BASE_H
#define AR_BASE_H

#include "status.h"

#include "memory.h"

#include "context.h"
#include "energy.h"
#include "file.h"
#include "option.h"
#include "rng.h"
#include "text.h"

#endif
