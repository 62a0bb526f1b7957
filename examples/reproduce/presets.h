/* The table of presets; see presets.c. */
#ifndef PRESETS_H
#define PRESETS_H

#include "reproduce.h"

extern const preset presets[];
extern const int32_t preset_count;

/* The preset of that name for a dataset; every name of the table has one. */
const preset *find_preset(const char *name, const char *dataset);

#endif
