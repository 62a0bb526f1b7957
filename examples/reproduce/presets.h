/* The table of presets; see settings.c. */
#ifndef PRESETS_H
#define PRESETS_H

#include "reproduce.h"

extern const preset presets[];
extern const int32_t preset_count;

#endif
