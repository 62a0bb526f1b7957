/* Version of the library: of the headers (macros) and of the loaded library (functions). */
#ifndef ADVROB_VERSION_H
#define ADVROB_VERSION_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ADVROB_VERSION_MAJOR 0
#define ADVROB_VERSION_MINOR 1
#define ADVROB_VERSION_PATCH 0

#if defined(__GNUC__)
#define ADVROB_API __attribute__((visibility("default")))
#else
#define ADVROB_API
#endif

/* The loaded library's version as 10000 * major + 100 * minor + patch. Never fails. */
ADVROB_API int32_t advrob_version(void);

/* The same as text, "0.1.0". Static storage. */
ADVROB_API const char *advrob_version_text(void);

#ifdef __cplusplus
}
#endif

#endif
