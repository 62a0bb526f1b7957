/* api: argument checks, then one call in. The only files that define advrob_ symbols; nobody else
 * includes this folder. Files of the inference-only library include entry.h instead. */
#ifndef AR_API_H
#define AR_API_H

#include <advrob/advrob.h>

#include "compress/compress.h"
#include "entry.h"
#include "io/io.h"
#include "method/method.h"
#include "report/report.h"

#endif
