/* Options written as text: test_options("epsilon=8/255 steps=5"). Include support.h and golden.h
 * first. */
#ifndef TEST_OPTIONS_H
#define TEST_OPTIONS_H

/* Words of the form name=value, one space between them; "" gives an empty set. Destroyed by the
 * caller. */
static inline advrob_options *test_options(const char *text) {
    advrob_options *options = NULL;
    char name[64], value[192];
    test_ok(ar_options_create(NULL, NULL, &options));
    while (*text != 0) {
        size_t length = strcspn(text, " "), key = strcspn(text, "=");
        assert_true(key < length && key < sizeof name && length - key < sizeof value);
        memcpy(name, text, key);
        name[key] = 0;
        memcpy(value, text + key + 1, length - key - 1);
        value[length - key - 1] = 0;
        test_ok(ar_options_set_text(options, name, value));
        text += length;
        text += strspn(text, " ");
    }
    return options;
}

#endif
