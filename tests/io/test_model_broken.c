/* Broken model files: each is refused with one line that says why, with little memory. */
#include "model_support.h"

/* The text with its first `from` replaced, to be freed. */
static char *replace(const char *text, const char *from, const char *to) {
    const char *at = strstr(text, from);
    if (at == NULL) fail_msg("%s is not in the graph", from);
    size_t before = (size_t)(at - text), size = strlen(text) + strlen(to) + 1;
    char *out = malloc(size);
    assert_non_null(out);
    snprintf(out, size, "%.*s%s%s", (int)before, text, to, at + strlen(from));
    return out;
}

/* Parses a sketch: the status is `code`, the message good, little memory was used, all is freed. */
static void expect(const sketch *s, int32_t code, const char *what) {
    size_t size;
    advrob_model *m;
    uint8_t *data = draw(s, &size);
    uint64_t before = ctx->memory.used;
    ctx->memory.peak = before;
    int32_t status = parse(data, size, &m);
    if (status != code)
        fail_msg("%s: %s (%s), expected %s", what, ar_status_name(status),
                 status < 0 ? ar_message() : "", ar_status_name(code));
    if (status < 0) check_message("t: ");
    assert_true(ctx->memory.peak - before < 2 * size + MIB / 2);
    ar_model_release(m);
    assert_int_equal(ctx->memory.used, before);
    free(data);
}

/* What a later version may add is ignored; what may be left out is filled in. */
static void test_optional(void **state) {
    (void)state;
    advrob_model *plain = NULL, *m = NULL;
    size_t size;
    sketch s = whole;
    uint8_t *data = draw(&s, &size);
    good(parse(data, size, &plain));
    free(data);
    static const char *const edits[][2] = {
        {"'kernel':[1,1],", ""},
        {"'stride':[1,1],", ""},
        {"'padding':[0,0],", ""},
        {"'padding':[0,0],", "'later':{'a':[null,1e300]},"},
        {"{'input'", "{'later':null,'input'"},
        {"'zero':5", "'zero':5,'later':[[[]]]"},
        {"'bias':true", "'bias':true,'border_bias':false"},
        {"['c']", "['c'],'bias':true,'kernel':[2,2]"}, /* not flatten's business */
    };
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        char *text = replace(graph_text, edits[i][0], edits[i][1]);
        s.graph = text;
        data = draw(&s, &size);
        good(parse(data, size, &m));
        if (i < 7) assert_true(ar_model_digest(m) == ar_model_digest(plain));
        ar_model_release(m);
        free(data);
        free(text);
    }
    ar_model_release(plain);
}

/* ---- Broken files ---- */

typedef struct edit {
    const char *from, *to;
    int32_t code; /* 0: E_FORMAT */
} edit;

#define LONG "50_bytes_90123456789012345678901234567890123456789"

static const edit broken[] = {
    /* operators and inputs */
    {"'conv2d'", "'conv3d'", ADVROB_E_UNSUPPORTED},
    {"'conv2d'", "''", ADVROB_E_UNSUPPORTED},
    {"'conv2d'", "7", 0},
    {"'op':'conv2d',", "", 0},
    {"'inputs':['input']", "'inputs':['l']", 0}, /* a cycle */
    {"'inputs':['input']", "'inputs':['c']", 0}, /* itself */
    {"'inputs':['input']", "'inputs':['f']", 0}, /* later */
    {"'inputs':['input']", "'inputs':['nothing']", 0},
    {"'inputs':['input']", "'inputs':[0]", 0},
    {"'inputs':['input']", "'inputs':[]", 0},
    {"'inputs':['input']", "'inputs':['input','input']", 0},
    {"'inputs':['input']", "'inputs':'input'", 0},
    {"'inputs':['input'],", "", 0},
    {"'inputs':['f']", "'inputs':['c']", 0}, /* not flat */
    {"'op':'flatten'", "'op':'add'", 0},
    /* names */
    {"'name':'f'", "'name':'c'", 0},
    {"'name':'f'", "'name':'input'", 0},
    {"'name':'f'", "'name':''", 0},
    {"'name':'f'", "'name':'a/b'", 0},
    {"'name':'f'", "'name':'a\\u0001\\nb'", 0},
    {"'name':'f'", "'name':'\\ud83d\\ude00'", 0},
    {"'name':'f'", "'name':1", 0},
    {"'name':'f',", "", 0},
    {"'name':'f'", "'name':'" LONG LONG LONG LONG "'", 0},
    {"'name':'f'", "'name':'60_bytes_901234567890123456789012345678901234567890123456789'", 0},
    /* attributes */
    {"'kernel':[1,1]", "'kernel':[0,1]", 0},
    {"'kernel':[1,1]", "'kernel':[1,-1]", 0},
    {"'kernel':[1,1]", "'kernel':[1000000000,1]", 0},
    {"'kernel':[1,1]", "'kernel':[1e9,1]", 0},
    {"'kernel':[1,1]", "'kernel':[4294967297,1]", 0},
    {"'kernel':[1,1]", "'kernel':[1.5,1]", 0},
    {"'kernel':[1,1]", "'kernel':[1.0,1]", 0},
    {"'kernel':[1,1]", "'kernel':['3',1]", 0},
    {"'kernel':[1,1]", "'kernel':[null,1]", 0},
    {"'kernel':[1,1]", "'kernel':'3'", 0},
    {"'kernel':[1,1]", "'kernel':3", 0},
    {"'kernel':[1,1]", "'kernel':[1]", 0},
    {"'kernel':[1,1]", "'kernel':[1,1,1]", 0},
    {"'kernel':[1,1]", "'kernel':[1,1e999]", 0},
    {"'kernel':[1,1]", "'kernel':[2,2]", 0}, /* the weight has another shape */
    {"'stride':[1,1]", "'stride':[0,1]", 0},
    {"'stride':[1,1]", "'stride':[1,-2147483648]", 0},
    {"'stride':[1,1]", "'stride':[2147483647,1]", 0},
    {"'padding':[0,0]", "'padding':[2147483648,0]", 0},
    {"'padding':[0,0]", "'padding':[2147483647,0]", 0},
    {"'padding':[0,0]", "'padding':[-1,0]", 0},
    {"'padding':[0,0]", "'padding':[1,0]", 0}, /* not below the kernel */
    {"'kernel':[1,1]", "'kernel':[1,1],'dilation':[0,1]", 0},
    {"'kernel':[1,1]", "'kernel':[1,1],'dilation':[1,1025]", 0},
    {"'kernel':[1,1]", "'kernel':[1,1],'dilation':[2]", 0},
    {"'kernel':[1,1]", "'kernel':[1,1],'dilation':2", 0},
    {"'kernel':[1,1]", "'kernel':[1,1],'dilation':[2147483647,1]", 0},
    {"'outputs':2", "'outputs':2,'groups':0", 0},
    {"'outputs':2", "'outputs':2,'groups':2", 0}, /* of one channel */
    {"'outputs':2", "'outputs':2,'groups':[1]", 0},
    {"'outputs':2", "'outputs':2,'groups':2147483648", 0},
    {"'outputs':3", "'outputs':3,'groups':3", 0},       /* of a linear layer */
    {"'outputs':3", "'outputs':3,'dilation':[2,1]", 0}, /* of a linear layer */
    {"'outputs':2", "'outputs':0", 0},
    {"'outputs':2", "'outputs':-1", 0},
    {"'outputs':2", "'outputs':1", 0},
    {"'outputs':2", "'outputs':65536", 0},
    {"'outputs':2", "'outputs':65537", 0},
    {"'outputs':2", "'outputs':4294967296", 0},
    {"'outputs':2", "'outputs':4294967298", 0},
    {"'outputs':2", "'outputs':9223372036854775808", 0},
    {"'outputs':2", "'outputs':2.0", 0},
    {"'outputs':2", "'outputs':[2]", 0},
    {"'outputs':2,", "", 0},
    {"'bias':true", "'bias':1", 0},
    {"'bias':true", "'bias':null", 0},
    {"'bias':true", "'bias':false", 0}, /* its tensor belongs to nothing then */
    {"'bias':true", "'bias':true,'border_bias':1", 0},
    {"'bias':true", "'bias':true,'border_bias':'true'", 0},
    {"'bias':true", "'bias':true,'border_bias':true", 0}, /* for which there is no tensor */
    {"'outputs':3", "'outputs':3,'border_bias':true", 0}, /* of a linear layer */
    /* the frame */
    {"'input':[1,2,2]", "'input':[0,2,2]", 0},
    {"'input':[1,2,2]", "'input':[1,2]", 0},
    {"'input':[1,2,2]", "'input':[1,2,65537]", 0},
    {"'input':[1,2,2]", "'input':[65536,65536,65536]", 0},
    {"'input':[1,2,2]", "'input':[65536,1,1]", 0},
    {"'input':[1,2,2]", "'input':[1,-2,-2]", 0},
    {"'input':[1,2,2],", "", 0},
    {"'mean':[0.5]", "'mean':[]", 0},
    {"'mean':[0.5]", "'mean':[0.5,0.5]", 0},
    {"'mean':[0.5]", "'mean':[1e39]", 0},
    {"'mean':[0.5]", "'mean':0.5", 0},
    {"'mean':[0.5]", "'mean':['0.5']", 0},
    {"'mean':[0.5],", "", 0},
    {"'std':[0.25]", "'std':[0.25,0.25]", 0},
    {"'std':[0.25]", "'std':[0]", 0},
    {"'std':[0.25]", "'std':[-0.25]", 0},
    {"'std':[0.25]", "'std':[1e-60]", 0},
    {"'std':[0.25]", "'std':[null]", 0},
    {"'box':[0,1]", "'box':[1,0]", 0},
    {"'box':[0,1]", "'box':[1,1]", 0},
    {"'box':[0,1]", "'box':[0]", 0},
    {"'box':[0,1]", "'box':[0,1e300]", 0},
    {"'box':[0,1],", "", 0},
    {"'zoo':'z'", "'zoo':[]", 0},
    {"'zoo':'z'", "'zoo':'0123456789012345678901234567890123456789012345678901234567890123'", 0},
    {"'nodes':[{", "'nodes':[1,{", 0},
    {"'nodes':[{", "'nodes':[null,{", 0},
    {"'nodes':[", "'nodes':[],'later':[", 0},
    {"'nodes':[", "'nodes':{},'later':[", 0},
    {"'nodes':[", "'later':[", 0},
    {"'nodes':[", "'nodes':[],'nodes':[", 0},
    /* quantization */
    {"'bits':8", "'bits':0", 0},
    {"'bits':8", "'bits':17", 0},
    {"'bits':8", "'bits':-1", 0},
    {"'bits':8", "'bits':1.5", 0},
    {"'bits':8,", "", 0},
    {"'low':-128", "'low':128", 0},
    {"'low':-128", "'low':'-128'", 0},
    {"'low':-128", "'low':-1e300", 0},
    {"'high':127", "'high':-128", 0},
    {"'zero':5", "'zero':128", 0},
    {"'zero':5", "'zero':-128.5", 0},
    {"'zero':5", "'zero':null", 0},
    {",'zero':5", "", 0},
    {"'output':{", "'output':1,'later':{", 0},
    {"'output':{", "'later':{", 0}, /* its scales belong to nothing then */
    {"['c']", "['c'],'weights':{'bits':8,'low':0,'high':1,'zero':0}", 0},
    {"['c']", "['c'],'output':{'bits':8,'low':0,'high':1,'zero':0}", 0},
    {"'input_quantization':{", "'input_quantization':[{", 0},
    {"'input_quantization':{", "'input_quantization':7,'later':{", 0},
};

static void test_broken_graphs(void **state) {
    (void)state;
    sketch s = whole;
    expect(&s, ADVROB_OK, "as it is");
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        char *text = replace(graph_text, broken[i].from, broken[i].to);
        s.graph = text;
        expect(&s, broken[i].code != 0 ? broken[i].code : ADVROB_E_FORMAT, broken[i].to);
        free(text);
    }
}

static void test_broken_metadata(void **state) {
    (void)state;
    static const char *const versions[] = {"0", "-1", "", " 1", "1 ", "one", "1.0", "0x1", "1e0"};
    static const char *const graphs[] = {"", "[]", "7", "null", "'{}'", "{", "{}", "{'", "nan"};
    char deep[401];
    sketch s = whole;
    s.version = "2";
    expect(&s, ADVROB_E_UNSUPPORTED, "version 2");
    s.version = "9223372036854775807";
    expect(&s, ADVROB_E_UNSUPPORTED, "a version far off");
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        s.version = versions[i];
        expect(&s, ADVROB_E_FORMAT, versions[i]);
    }
    s.version = NULL;
    expect(&s, ADVROB_E_FORMAT, "no version");
    s = whole;
    s.format = NULL;
    expect(&s, ADVROB_E_FORMAT, "no format");
    s.format = "pt";
    expect(&s, ADVROB_E_FORMAT, "another format");
    s = whole;
    s.graph = NULL;
    expect(&s, ADVROB_E_FORMAT, "no graph");
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++) {
        s.graph = graphs[i];
        expect(&s, ADVROB_E_FORMAT, graphs[i]);
    }
    memset(deep, '[', 400);
    deep[400] = 0;
    s.graph = deep;
    expect(&s, ADVROB_E_FORMAT, "deep nesting");
    memset(deep + 200, ']', 200);
    expect(&s, ADVROB_E_FORMAT, "deep nesting that closes");
}

static void test_broken_tensors(void **state) {
    (void)state;
    sketch s;
    for (int32_t i = 0; i < whole.count; i++) {
        const char *name = whole.parts[i].name;
        s = whole;
        s.parts[i] = s.parts[--s.count];
        expect(&s, ADVROB_E_FORMAT, name); /* missing */
        s = whole;
        s.parts[i].name = "other";
        expect(&s, ADVROB_E_FORMAT, name);
        s = whole;
        s.parts[i].shape = "[2,2,2]";
        s.parts[i].bytes = 32;
        expect(&s, ADVROB_E_FORMAT, name);
        s.parts[i].shape = "[0]";
        s.parts[i].bytes = 0;
        expect(&s, ADVROB_E_FORMAT, name);
        s.parts[i].shape = "[]";
        s.parts[i].bytes = 4;
        expect(&s, ADVROB_E_FORMAT, name);
        s = whole;
        s.parts[i].dtype = "I32";
        expect(&s, ADVROB_E_FORMAT, name);
        s = whole;
        s.parts[i].fill = NAN;
        expect(&s, ADVROB_E_NONFINITE, name);
        assert_non_null(strstr(ar_message(), name));
        s.parts[i].fill = -INFINITY;
        expect(&s, ADVROB_E_NONFINITE, name);
    }
    s = whole;
    s.parts[s.count++] = (part){"d.weight", "F32", "[1]", 4, 0};
    expect(&s, ADVROB_E_FORMAT, "extra tensor");
    s.parts[s.count - 1] = (part){"f.weight", "F32", "[0,5]", 0, 0};
    expect(&s, ADVROB_E_FORMAT, "extra empty tensor");
    for (int32_t i = 4; i < 7; i++)
        for (int32_t k = 0; k < 2; k++) {
            s = whole;
            s.parts[i].fill = k == 0 ? 0 : -1;
            expect(&s, ADVROB_E_FORMAT, "scale");
        }
    s = whole;
    s.parts[5] = (part){"l.weight_scales", "F32", "[2]", 8, 1};
    expect(&s, ADVROB_E_FORMAT, "2 scales for 3 channels");
    s.parts[5] = (part){"l.weight_scales", "F32", "[1]", 4, 1};
    expect(&s, ADVROB_OK, "1 scale for all channels");
    s = whole;
    s.parts[4] = (part){"c.output_scales", "F32", "[2]", 8, 1};
    expect(&s, ADVROB_E_FORMAT, "an output has one scale");
}

/* Little texts that ask for much. `expect` holds the memory against the file's size. */
static void test_bombs(void **state) {
    (void)state;
    sketch s = whole;
    s.count = 1;
    s.parts[0] = (part){"l.weight", "F32", "[3,8]", 96, 0};
    s.graph = "{'input':[65536,1,1],'mean':[0],'std':[1],'box':[0,1],'nodes':[]}";
    expect(&s, ADVROB_E_FORMAT, "a mean of 65536 channels");
    s.graph = "{'input':[1,256,256],'mean':[0],'std':[1],'box':[0,1],'nodes':["
              "{'name':'f','op':'flatten','inputs':['input']},"
              "{'name':'l','op':'linear','inputs':['f'],'outputs':65536}]}";
    expect(&s, ADVROB_E_FORMAT, "65536 outputs of 65536 inputs");
    s.parts[0].name = "m.weight";
    expect(&s, ADVROB_E_FORMAT, "65536 outputs of 65536 inputs, no tensor");
    s.graph = "{'input':[1,8192,8192],'mean':[0],'std':[1],'box':[0,1],'nodes':["
              "{'name':'l','op':'conv2d','inputs':['input'],'outputs':65536}]}";
    expect(&s, ADVROB_E_FORMAT, "a value of 2^42");
    s.graph = "{'input':[1,8192,8192],'mean':[0],'std':[1],'box':[0,1],'nodes':["
              "{'name':'l','op':'conv2d','inputs':['input'],'outputs':1,"
              "'kernel':[1024,1024],'padding':[1023,1023]}]}";
    expect(&s, ADVROB_E_FORMAT, "a kernel of 2^20");
    s.graph = "{'input':[1,8192,8192],'mean':[0],'std':[1],'box':[0,1],'nodes':["
              "{'name':'l','op':'max_pool','inputs':['input'],"
              "'kernel':[65536,65536]}]}";
    expect(&s, ADVROB_E_FORMAT, "a window of 2^32");
}

/* A chain of `count` ReLUs. */
static char *chain(int32_t count) {
    ar_buffer b;
    ar_buffer_init(&b, &ctx->memory);
    ar_buffer_add(&b, "{'input':[1,1,1],'mean':[0],'std':[1],'box':[0,1],'nodes':[");
    for (int32_t i = 0; i < count; i++) {
        ar_buffer_add(&b, "%s{'name':'n%d','op':'relu','inputs':[", i > 0 ? "," : "", i);
        if (i == 0)
            ar_buffer_add(&b, "'input']}");
        else
            ar_buffer_add(&b, "'n%d']}", i - 1);
    }
    ar_buffer_add(&b, "]}");
    good(ar_buffer_status(&b));
    char *text = strdup(b.data);
    ar_buffer_free(&b);
    return text;
}

static void test_many_nodes(void **state) {
    (void)state;
    static const int32_t counts[] = {1, 4095, 4096, 5000};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        char *text = chain(counts[i]);
        sketch s = {"advrob", "1", text, {{0}}, 0};
        size_t size;
        advrob_model *m, *back = NULL;
        uint8_t *data = draw(&s, &size);
        int32_t status = parse(data, size, &m);
        assert_int_equal(status, counts[i] < AR_MAX_NODES ? ADVROB_OK : ADVROB_E_LIMIT);
        if (status == ADVROB_OK) {
            good(ar_model_file_save(m, path));
            good(ar_model_file_load(ctx, path, &back));
            same_model(m, back);
        }
        ar_model_release(m);
        ar_model_release(back);
        free(data);
        free(text);
    }
    /* More values than any graph has. */
    size_t size = 700000;
    char *text = malloc(size + 1);
    assert_non_null(text);
    for (size_t i = 0; i < size; i += 2)
        memcpy(text + i, "0,", 2);
    text[0] = '[';
    text[1] = '0';
    text[2] = ',';
    text[3] = '0';
    text[size - 1] = ']';
    text[size] = 0;
    sketch s = {"advrob", "1", text, {{0}}, 0};
    uint8_t *data = draw(&s, &size);
    advrob_model *m;
    assert_int_equal(parse(data, size, &m), ADVROB_E_FORMAT);
    check_message("t: ");
    free(data);
    free(text);
}

static void test_truncated(void **state) {
    (void)state;
    advrob_model *m = zoo_model("tiny", true), *back;
    size_t size;
    good(ar_model_file_save(m, path));
    uint8_t *data = read_bytes(path, &size);
    uint64_t before = ctx->memory.used;
    for (size_t n = 0; n < size; n++) {
        assert_int_equal(parse(data, n, &back), ADVROB_E_FORMAT);
        check_message("t: ");
        assert_int_equal(ctx->memory.used, before);
    }
    ar_free(&ctx->memory, data);
    ar_model_release(m);
}

/* Whatever a flipped bit makes of the file: an error that says so, or a model that holds together.
 */
static void test_bit_flips(void **state) {
    (void)state;
    size_t size;
    sketch s = whole;
    uint8_t *data = draw(&s, &size);
    uint64_t before = ctx->memory.used;
    int32_t taken = 0;
    ctx->memory.peak = before;
    for (size_t bit = 0; bit < size * 8; bit++) {
        advrob_model *m;
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        int32_t status = parse(data, size, &m);
        if (status == ADVROB_OK) {
            taken++;
            good(ar_model_check_finite(m));
            assert_true(ar_model_macs(m) > 0);
            ar_model_release(m);
        } else {
            check_message("t: ");
        }
        assert_int_equal(ctx->memory.used, before);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(taken > 100); /* weights: most of their bits make another good number */
    assert_true(ctx->memory.peak - before < MIB);
    free(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_optional, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_broken_graphs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_broken_metadata, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_broken_tensors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bombs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_nodes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_truncated, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bit_flips, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
