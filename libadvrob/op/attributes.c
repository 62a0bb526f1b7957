/* What a caller can tell an operator's node: option tables, one for each kind of operator, and
 * their way into attributes. */
#include "op.h"

/* Every table's struct; a table fills the fields that it names. */
typedef struct node_options {
    ar_f64_array kernel, stride, padding, dilation;
    int64_t outputs, bias, groups, before, after;
    double epsilon, momentum, rate;
} node_options;

#define WINDOW(stride_help) \
    AR_F64_ARRAY(node_options, kernel, 1, 1024, "height and width, or one for both; 1"), \
        AR_F64_ARRAY(node_options, stride, 1, 1024, stride_help), \
        AR_F64_ARRAY(node_options, padding, 0, 1023, "zeros around the image, likewise; 0")
#define CHANNELS(what) \
    AR_I64(node_options, outputs, 1, 1, AR_MAX_DIM, what), \
        AR_I64(node_options, bias, 1, 0, 1, "add a bias to each")

static const ar_option conv[] = {
    WINDOW("likewise; 1"),
    AR_F64_ARRAY(node_options, dilation, 1, 1024, "from one tap to the next, likewise; 1"),
    AR_I64(node_options, groups, 1, 1, AR_MAX_DIM,
           "parts of channels and outputs that see only each other"),
    CHANNELS("channels of the output"),
};
static const ar_option pool[] = {WINDOW("likewise; the kernel")};
static const ar_option linear[] = {CHANNELS("features of the output")};
static const ar_option norm[] = {
    AR_F64(node_options, epsilon, 1e-5, 0, 1, "added to the variance"),
    AR_F64(node_options, momentum, 0.1, 0, 1, "share of the batch in new running statistics"),
};
static const ar_option dropout[] = {
    AR_F64(node_options, rate, 0.5, 0, 1, "share of the values that become 0 in training"),
};
static const ar_option pad[] = {
    AR_I64(node_options, before, 0, 0, AR_MAX_DIM, "channels of zeros before the input's"),
    AR_I64(node_options, after, 0, 0, AR_MAX_DIM, "channels of zeros after them"),
};
const ar_option_table ar_op_conv_options = AR_TABLE(node_options, conv);
const ar_option_table ar_op_pool_options = AR_TABLE(node_options, pool);
const ar_option_table ar_op_linear_options = AR_TABLE(node_options, linear);
const ar_option_table ar_op_norm_options = AR_TABLE(node_options, norm);
const ar_option_table ar_op_dropout_options = AR_TABLE(node_options, dropout);
const ar_option_table ar_op_pad_options = AR_TABLE(node_options, pad);
const ar_option_table ar_op_no_options = {NULL, 0, sizeof(node_options)};

/* One or two whole numbers; `usual` where there is none. */
static int32_t read_pair(const char *who, const char *name, const ar_f64_array *given,
                         const int32_t usual[2], int32_t out[2]) {
    if (given->count > 2)
        return ar_error(ADVROB_E_RANGE, "%s: option \"%s\" has %zu numbers, expected 1 or 2", who,
                        name, given->count);
    for (size_t axis = 0; axis < 2; axis++) {
        out[axis] = usual[axis];
        if (given->count == 0) continue;
        double value = given->values[given->count == 1 ? 0 : axis];
        out[axis] = (int32_t)value;
        if ((double)out[axis] != value)
            return ar_error(ADVROB_E_RANGE, "%s: option \"%s\" has %g, expected a whole number",
                            who, name, value);
    }
    return ADVROB_OK;
}

int32_t ar_op_read_options(const ar_op *op, const char *who, const advrob_options *options,
                           ar_arena *arena, ar_attributes *out) {
    static const int32_t ones[2] = {1, 1}, zeros[2] = {0, 0};
    int32_t status = ADVROB_OK;
    node_options o;
    ar_option_scope scope = {"", op->options};
    ar_attributes a = {.kernel = {1, 1}};
    AR_TRY(ar_options_check(options, who, &scope, 1));
    AR_TRY(ar_options_read(options, who, "", op->options, arena, &o));
    AR_TRY(read_pair(who, "kernel", &o.kernel, ones, a.kernel));
    AR_TRY(read_pair(who, "stride", &o.stride, op->options == &ar_op_pool_options ? a.kernel : ones,
                     a.stride));
    AR_TRY(read_pair(who, "padding", &o.padding, zeros, a.padding));
    AR_TRY(read_pair(who, "dilation", &o.dilation, ones, a.dilation));
    a.outputs = (int32_t)o.outputs;
    a.bias = o.bias != 0;
    a.groups = op->options == &ar_op_conv_options ? (int32_t)o.groups : 1;
    a.epsilon = o.epsilon;
    a.momentum = o.momentum;
    a.rate = o.rate;
    a.before = (int32_t)o.before;
    a.after = (int32_t)o.after;
    *out = a;
out:
    return status;
}
