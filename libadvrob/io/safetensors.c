/* safetensors: a strict reader and a writer.
 *
 * The reader goes over the header twice, entry by entry: first to check each entry and count them
 * with memory for one at a time, then to fill the table. */
#include "safetensors.h"

#include <math.h>
#include <string.h>

#include "sort.h"

#define MAX_FILE ((uint64_t)4 << 30)
#define MAX_HEADER ((size_t)16 << 20)
#define MAX_TENSORS 65536
#define MAX_RANK 8
#define MAX_NAME 1024
#define MAX_METADATA 4096
/* Values in one entry: room for the metadata and its object. */
#define MAX_VALUES (MAX_METADATA + 1)
#define METADATA "__metadata__"
#define QUOTE 96

typedef struct dtype {
    const char *name;
    int32_t size; /* bytes of an element */
} dtype;

static const dtype dtypes[] = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
    {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
    {"U32", 4},  {"F32", 4}, {"F64", 8}, {"I64", 8},     {"U64", 8},
};

typedef struct reader {
    advrob_context *ctx;
    const char *name; /* for messages */
    const char *header;
    size_t header_size;
    const uint8_t *data;
    size_t data_size;
} reader;

/* One entry */

/* An error about tensor `key` of the file. */
static int32_t entry_error(const reader *r, int32_t code, const char *key, const char *what) {
    char quoted[QUOTE];
    ar_json_quote(quoted, sizeof(quoted), key);
    return ar_error(code, "%.200s: tensor %s: %s", r->name, quoted, what);
}

static int32_t read_dtype(const reader *r, const char *key, const ar_json *value,
                          const dtype **out) {
    if (!value || value->kind != AR_JSON_STRING)
        return entry_error(r, ADVROB_E_FORMAT, key, "no dtype, expected a text as \"F32\"");
    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++) {
        if (strcmp(dtypes[i].name, value->text) != 0) continue;
        *out = &dtypes[i];
        return ADVROB_OK;
    }
    char what[QUOTE * 2], quoted[QUOTE];
    ar_json_quote(quoted, sizeof(quoted), value->text);
    ar_format(what, sizeof(what), "dtype %s, expected BOOL, U8 to U64, I8 to I64 or F8 to F64",
              quoted);
    return entry_error(r, ADVROB_E_FORMAT, key, what);
}

static bool is_count(const ar_json *value) {
    return value->kind == AR_JSON_NUMBER && value->integer && value->whole >= 0;
}

static int32_t read_shape(const reader *r, const char *key, const ar_json *value, ar_stored *out) {
    char what[QUOTE];
    if (!value || value->kind != AR_JSON_ARRAY)
        return entry_error(r, ADVROB_E_FORMAT, key, "no shape, expected an array of sizes");
    if (value->count > MAX_RANK) {
        ar_format(what, sizeof(what), "rank %zu, expected at most %d", value->count, MAX_RANK);
        return entry_error(r, ADVROB_E_LIMIT, key, what);
    }
    out->rank = (int32_t)value->count;
    for (int32_t i = 0; i < out->rank; i++) {
        const ar_json *item = &value->items[i];
        if (!is_count(item)) {
            ar_format(what, sizeof(what), "dimension %d is no integer of at least 0", i);
            return entry_error(r, ADVROB_E_FORMAT, key, what);
        }
        if (item->whole > INT32_MAX) {
            ar_format(what, sizeof(what), "dimension %d is %lld, expected at most %d", i,
                      (long long)item->whole, INT32_MAX);
            return entry_error(r, ADVROB_E_LIMIT, key, what);
        }
        out->shape[i] = item->whole;
    }
    if (!ar_product(out->shape, out->rank, &out->count))
        return entry_error(r, ADVROB_E_OVERFLOW, key, "the product of its shape does not fit");
    return ADVROB_OK;
}

static int32_t read_offsets(const reader *r, const char *key, const ar_json *value, int64_t bytes,
                            ar_stored *out) {
    char what[QUOTE * 2];
    if (!value || value->kind != AR_JSON_ARRAY || value->count != 2 ||
        !is_count(&value->items[0]) || !is_count(&value->items[1]))
        return entry_error(r, ADVROB_E_FORMAT, key,
                           "data_offsets, expected two integers of at least 0");
    int64_t begin = value->items[0].whole, end = value->items[1].whole;
    if (begin > end || (uint64_t)end > r->data_size) {
        ar_format(what, sizeof(what),
                  "data_offsets %lld to %lld, expected in order and at most %zu", (long long)begin,
                  (long long)end, r->data_size);
        return entry_error(r, ADVROB_E_FORMAT, key, what);
    }
    if (end - begin != bytes) {
        ar_format(what, sizeof(what), "%lld bytes of data, expected %lld for its shape and dtype",
                  (long long)(end - begin), (long long)bytes);
        return entry_error(r, ADVROB_E_FORMAT, key, what);
    }
    out->data = r->data + begin;
    out->size = (size_t)bytes;
    return ADVROB_OK;
}

/* Checks one member of the header by itself and fills *out. */
static int32_t read_entry(const reader *r, const char *key, const ar_json *value, ar_stored *out) {
    int32_t status = ADVROB_OK;
    const dtype *type = NULL;
    if (strlen(key) > MAX_NAME)
        AR_TRY(entry_error(r, ADVROB_E_LIMIT, key, "its name is longer than 1024 bytes"));
    if (value->kind != AR_JSON_OBJECT || value->count != 3)
        AR_TRY(entry_error(r, ADVROB_E_FORMAT, key,
                           "expected an object of dtype, shape and data_offsets"));
    AR_TRY(read_dtype(r, key, ar_json_get(value, "dtype"), &type));
    AR_TRY(read_shape(r, key, ar_json_get(value, "shape"), out));
    int64_t factors[2] = {out->count, type->size}, bytes;
    if (!ar_product(factors, 2, &bytes))
        AR_TRY(entry_error(r, ADVROB_E_OVERFLOW, key, "its size in bytes does not fit"));
    AR_TRY(read_offsets(r, key, ar_json_get(value, "data_offsets"), bytes, out));
    out->name = key;
    out->dtype = type->name;
out:
    return status;
}

static int32_t check_metadata(const reader *r, const ar_json *value) {
    if (value->kind != AR_JSON_OBJECT)
        return ar_error(ADVROB_E_FORMAT, "%.200s: " METADATA " is no object, expected one of texts",
                        r->name);
    for (size_t i = 0; i < value->count; i++) {
        if (value->items[i].kind == AR_JSON_STRING) continue;
        char quoted[QUOTE];
        ar_json_quote(quoted, sizeof(quoted), value->keys[i]);
        return ar_error(ADVROB_E_FORMAT, "%.200s: " METADATA " %s is no text, expected one",
                        r->name, quoted);
    }
    return ADVROB_OK;
}

/* The header */

/* First reading: every entry by itself, and their number. */
static int32_t count_entries(const reader *r, int32_t *count) {
    int32_t status = ADVROB_OK, metadata = 0;
    ar_json_walk walk = {.name = r->name, .text = r->header, .size = r->header_size};
    ar_arena arena;
    ar_arena_init(&arena, &r->ctx->memory);
    *count = 0;
    for (;;) {
        const char *key;
        ar_json *value;
        ar_stored ignored = {0};
        AR_TRY(ar_json_walk_next(&walk, MAX_VALUES, &arena, &key, &value));
        if (!key) break;
        if (strcmp(key, METADATA) == 0) {
            if (++metadata > 1)
                AR_FAIL(ADVROB_E_FORMAT, "%.200s: the header has two keys \"" METADATA "\"",
                        r->name);
            AR_TRY(check_metadata(r, value));
        } else {
            if (++*count > MAX_TENSORS)
                AR_FAIL(ADVROB_E_LIMIT, "%.200s: more than %d tensors", r->name, MAX_TENSORS);
            AR_TRY(read_entry(r, key, value, &ignored));
        }
        ar_arena_free(&arena);
        ar_arena_init(&arena, &r->ctx->memory);
    }
out:
    ar_arena_free(&arena);
    return status;
}

static int32_t fill_metadata(const ar_json *object, ar_safetensors *out) {
    if (object->count == 0) return ADVROB_OK;
    void *block;
    int32_t status = ar_arena_alloc(&out->arena, object->count, sizeof(char *), "metadata", &block);
    if (status < 0) return status;
    out->keys = object->keys;
    out->values = block;
    for (size_t i = 0; i < object->count; i++)
        out->values[i] = object->items[i].text;
    out->metadata = (int32_t)object->count;
    return ADVROB_OK;
}

/* Second reading: what was counted into the table. */
static int32_t fill_entries(const reader *r, ar_safetensors *out) {
    int32_t status = ADVROB_OK, at = 0;
    ar_json_walk walk = {.name = r->name, .text = r->header, .size = r->header_size};
    ar_arena arena;
    ar_arena_init(&arena, &r->ctx->memory);
    for (;;) {
        ar_json_walk before = walk;
        const char *key;
        ar_json *value;
        AR_TRY(ar_json_walk_next(&walk, MAX_VALUES, &arena, &key, &value));
        if (!key) break;
        if (strcmp(key, METADATA) == 0) { /* its tree is kept */
            AR_TRY(ar_json_walk_next(&before, MAX_VALUES, &out->arena, &key, &value));
            AR_TRY(fill_metadata(value, out));
        } else {
            ar_stored *tensor = &out->tensors[at++];
            AR_TRY(read_entry(r, key, value, tensor));
            AR_TRY(ar_arena_copy(&out->arena, key, &tensor->name));
        }
        ar_arena_free(&arena);
        ar_arena_init(&arena, &r->ctx->memory);
    }
    out->count = at;
out:
    ar_arena_free(&arena);
    return status;
}

static int compare_places(const void *a, const void *b) {
    const ar_stored *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->size > y->size) - (x->size < y->size); /* empty ones first */
}

static int compare_names(const void *a, const void *b) {
    return strcmp(((const ar_stored *)a)->name, ((const ar_stored *)b)->name);
}

/* Every byte of the data belongs to exactly one tensor; leaves the table in order of names. */
static int32_t check_table(const reader *r, ar_safetensors *file) {
    size_t end = 0;
    ar_sort(file->tensors, (size_t)file->count, sizeof(ar_stored), compare_places);
    for (int32_t i = 0; i < file->count; i++) {
        const ar_stored *tensor = &file->tensors[i];
        size_t begin = (size_t)(tensor->data - r->data);
        if (begin != end) {
            char what[QUOTE];
            ar_format(what, sizeof(what), "its data begins at %zu, expected %zu: %s", begin, end,
                      begin < end ? "tensors overlap" : "there is a hole");
            return entry_error(r, ADVROB_E_FORMAT, tensor->name, what);
        }
        end = begin + tensor->size;
    }
    if (end != r->data_size)
        return ar_error(ADVROB_E_FORMAT, "%.200s: %zu bytes of data, but the tensors fill %zu",
                        r->name, r->data_size, end);

    ar_sort(file->tensors, (size_t)file->count, sizeof(ar_stored), compare_names);
    for (int32_t i = 1; i < file->count; i++)
        if (compare_names(&file->tensors[i - 1], &file->tensors[i]) == 0)
            return entry_error(r, ADVROB_E_FORMAT, file->tensors[i].name, "there are two of it");
    return ADVROB_OK;
}

static int32_t read_length(const char *name, const uint8_t *data, size_t size, size_t *length) {
    if (size < 8)
        return ar_error(ADVROB_E_FORMAT, "%.200s: %zu bytes, expected a header length of 8 bytes",
                        name, size);
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | data[i];
    if (value > size - 8)
        return ar_error(ADVROB_E_FORMAT, "%.200s: a header of %llu bytes, but only %zu follow",
                        name, (unsigned long long)value, size - 8);
    if (value > MAX_HEADER)
        return ar_error(ADVROB_E_LIMIT, "%.200s: a header of %llu bytes, expected at most %zu",
                        name, (unsigned long long)value, MAX_HEADER);
    /* The format wants the brace at once; white space is a reader's difference to hide behind. */
    if (value == 0 || data[8] != '{')
        return ar_error(ADVROB_E_FORMAT, "%.200s: the header does not begin with '{'", name);
    *length = (size_t)value;
    return ADVROB_OK;
}

int32_t ar_safetensors_parse(advrob_context *ctx, const char *name, const uint8_t *data,
                             size_t size, ar_safetensors *out) {
    int32_t status = ADVROB_OK, count;
    memset(out, 0, sizeof(*out));
    ar_arena_init(&out->arena, &ctx->memory);
    reader r = {.ctx = ctx, .name = name};
    AR_TRY(read_length(name, data, size, &r.header_size));
    r.header = (const char *)data + 8;
    r.data = data + 8 + r.header_size;
    r.data_size = size - 8 - r.header_size;
    AR_TRY(count_entries(&r, &count));
    if (count > 0) {
        void *block;
        AR_TRY(ar_arena_alloc(&out->arena, (size_t)count, sizeof(ar_stored), "a table of tensors",
                              &block));
        out->tensors = block;
    }
    AR_TRY(fill_entries(&r, out));
    AR_TRY(check_table(&r, out));
out:
    if (status < 0) ar_safetensors_free(ctx, out);
    return status;
}

int32_t ar_safetensors_read(advrob_context *ctx, const char *path, ar_safetensors *out) {
    int32_t status = ADVROB_OK;
    uint8_t *data;
    size_t size;
    memset(out, 0, sizeof(*out));
    AR_TRY(ar_file_read(ctx, path, MAX_FILE, &data, &size));
    status = ar_safetensors_parse(ctx, path, data, size, out);
    if (status < 0) {
        ar_free(&ctx->memory, data);
        goto out;
    }
    out->owned = data;
out:
    return status;
}

void ar_safetensors_free(advrob_context *ctx, ar_safetensors *file) {
    ar_arena_free(&file->arena);
    ar_free(&ctx->memory, file->owned);
    memset(file, 0, sizeof(*file));
}

/* Access */

const ar_stored *ar_safetensors_find(const ar_safetensors *file, const char *name) {
    int32_t low = 0, high = file->count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        int order = strcmp(file->tensors[middle].name, name);
        if (order == 0) return &file->tensors[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const char *ar_safetensors_metadata(const ar_safetensors *file, const char *key) {
    for (int32_t i = 0; i < file->metadata; i++)
        if (strcmp(file->keys[i], key) == 0) return file->values[i];
    return NULL;
}

int32_t ar_stored_copy(const ar_stored *tensor, const char *file, ar_real *values) {
    char quoted[QUOTE];
    if (strcmp(tensor->dtype, "F32") != 0) {
        ar_json_quote(quoted, sizeof(quoted), tensor->name);
        return ar_error(ADVROB_E_FORMAT, "%.200s: tensor %s: dtype %s, expected F32", file, quoted,
                        tensor->dtype);
    }
    for (int64_t i = 0; i < tensor->count; i++) {
        float value;
        memcpy(&value, tensor->data + (size_t)i * sizeof(float), sizeof(float));
        if (!isfinite(value)) {
            ar_json_quote(quoted, sizeof(quoted), tensor->name);
            return ar_error(ADVROB_E_NONFINITE,
                            "%.200s: tensor %s: element %lld is %g, expected finite values", file,
                            quoted, (long long)i, (double)value);
        }
        values[i] = value;
    }
    return ADVROB_OK;
}

/* Writing */

/* A text that the JSON writer would have to change is refused: it would come back as another. */
static int32_t check_text(const char *path, const char *text) {
    size_t left = strlen(text);
    for (size_t n; left > 0; text += n, left -= n) {
        n = ar_utf8_length(text, left);
        if (n == 0)
            return ar_error(ADVROB_E_FORMAT, "%.200s: a name or metadata with byte %d, not UTF-8",
                            path, (unsigned char)*text);
    }
    return ADVROB_OK;
}

static int32_t check_stored(const char *path, const ar_stored *tensor) {
    if (tensor->rank < 0 || tensor->rank > MAX_RANK)
        return ar_error(ADVROB_E_INVALID, "%.200s: a tensor of rank %d, expected 0 to %d", path,
                        tensor->rank, MAX_RANK);
    if (!tensor->name || !tensor->dtype || (tensor->size > 0 && !tensor->data))
        return ar_error(ADVROB_E_INVALID, "%.200s: a tensor without name, dtype or data", path);
    return check_text(path, tensor->name);
}

static void write_metadata(ar_buffer *b, const char *const *keys, const char *const *values,
                           int32_t metadata) {
    ar_json_write_string(b, METADATA);
    ar_buffer_add(b, ":{");
    for (int32_t i = 0; i < metadata; i++) {
        if (i > 0) ar_buffer_add(b, ",");
        ar_json_write_string(b, keys[i]);
        ar_buffer_add(b, ":");
        ar_json_write_string(b, values[i]);
    }
    ar_buffer_add(b, "}");
}

static void write_entry(ar_buffer *b, const ar_stored *tensor, size_t begin, size_t end) {
    ar_json_write_string(b, tensor->name);
    ar_buffer_add(b, ":{\"dtype\":");
    ar_json_write_string(b, tensor->dtype);
    ar_buffer_add(b, ",\"shape\":[");
    for (int32_t i = 0; i < tensor->rank; i++)
        ar_buffer_add(b, "%s%lld", i > 0 ? "," : "", (long long)tensor->shape[i]);
    ar_buffer_add(b, "],\"data_offsets\":[%zu,%zu]}", begin, end);
}

/* The eight bytes of the length and the header; *total is the size of the whole file. */
static int32_t write_header(ar_buffer *b, const char *path, const ar_stored *tensors, int32_t count,
                            const char *const *keys, const char *const *values, int32_t metadata,
                            size_t *total) {
    int32_t status = ADVROB_OK;
    size_t end = 0;
    ar_buffer_bytes(b, "\0\0\0\0\0\0\0\0{", 9);
    for (int32_t i = 0; i < metadata; i++) {
        AR_TRY(check_text(path, keys[i]));
        AR_TRY(check_text(path, values[i]));
    }
    if (metadata > 0) write_metadata(b, keys, values, metadata);
    for (int32_t i = 0; i < count; i++) {
        size_t begin = end;
        AR_TRY(check_stored(path, &tensors[i]));
        if (!ar_add(end, tensors[i].size, &end))
            AR_FAIL(ADVROB_E_OVERFLOW, "%.200s: the size of all tensors does not fit", path);
        if (i > 0 || metadata > 0) ar_buffer_add(b, ",");
        write_entry(b, &tensors[i], begin, end);
    }
    ar_buffer_add(b, "}");
    while (b->status >= 0 && b->length % 8 != 0)
        ar_buffer_bytes(b, " ", 1);
    AR_TRY(ar_buffer_status(b));
    uint64_t length = b->length - 8;
    for (int i = 0; i < 8; i++)
        b->data[i] = (char)(unsigned char)(length >> 8 * i & 0xff);
    if (!ar_add(b->length, end, total))
        AR_FAIL(ADVROB_E_OVERFLOW, "%.200s: the size of the file does not fit", path);
out:
    return status;
}

int32_t ar_safetensors_write(advrob_context *ctx, const char *path, const ar_stored *tensors,
                             int32_t count, const char *const *keys, const char *const *values,
                             int32_t metadata) {
    int32_t status = ADVROB_OK;
    ar_buffer header;
    void *block = NULL;
    size_t total;
    ar_safetensors check;
    ar_buffer_init(&header, &ctx->memory);
    AR_TRY(write_header(&header, path, tensors, count, keys, values, metadata, &total));
    AR_TRY(ar_alloc(&ctx->memory, total, "a safetensors file", &block));
    uint8_t *at = block;
    memcpy(at, header.data, header.length);
    at += header.length;
    for (int32_t i = 0; i < count; i++) {
        if (tensors[i].size > 0) memcpy(at, tensors[i].data, tensors[i].size);
        at += tensors[i].size;
    }
    /* What is written can be read: names, limits and sizes are checked by the reader itself. */
    AR_TRY(ar_safetensors_parse(ctx, path, block, total, &check));
    ar_safetensors_free(ctx, &check);
    AR_TRY(ar_file_write(ctx, path, block, total));
out:
    ar_free(&ctx->memory, block);
    ar_buffer_free(&header);
    return status;
}
