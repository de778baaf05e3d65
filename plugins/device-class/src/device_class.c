/* A variant for each class of device, told by User-Agent: "bot", "tablet", "mobile" or "desktop". The same in all languages: read what was declared,
 * return what was decided, keep nothing.
 *
 * What is returned is freed by the generated code: texts are copied with cache_key_string_dup, lists come from calloc. */

#include <stdlib.h>
#include <string.h>

#include "cache_key.h"

/* Fails the hook with this message. */
static bool failed(cache_key_string_t *err, const char *message) {
    cache_key_string_dup(err, message);
    return false;
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

/* Whether the text contains the word (in lower case), whatever the case of the text. */
static bool contains(const cache_key_string_t *text, const char *word) {
    size_t length = strlen(word);
    for (size_t from = 0; from + length <= text->len; from++) {
        size_t same = 0;
        while (same < length && lower((char)text->ptr[from + same]) == word[same]) same++;
        if (same == length) return true;
    }
    return false;
}

static const char *class_of(const cache_key_option_string_t *user_agent) {
    if (!user_agent->is_some) return "device=bot";
    const cache_key_string_t *text = &user_agent->val;
    static const char *const bots[] = {"bot", "crawl", "spider", "slurp", "facebookexternalhit", "curl/", "wget/"};
    for (size_t n = 0; n < sizeof bots / sizeof bots[0]; n++) {
        if (contains(text, bots[n])) return "device=bot";
    }
    bool is_mobile = contains(text, "mobile");
    /* Android says "Mobile" on telephones and leaves it out on tablets. */
    if (contains(text, "ipad") || contains(text, "tablet") || (contains(text, "android") && !is_mobile)) return "device=tablet";
    return is_mobile || contains(text, "iphone") ? "device=mobile" : "device=desktop";
}

bool exports_weir_policy_lifecycle_configure(cache_key_string_t *config, exports_weir_policy_lifecycle_manifest_t *ret, cache_key_string_t *err) {
    bool is_empty = config->len == 2 && memcmp(config->ptr, "{}", 2) == 0;
    cache_key_string_free(config);
    if (!is_empty) return failed(err, "config: this plugin has none");

    memset(ret, 0, sizeof *ret);
    cache_key_string_dup(&ret->name, "device-class");
    cache_key_string_dup(&ret->version, "0.1.0");
    ret->inputs.ptr = calloc(1, sizeof *ret->inputs.ptr);
    if (!ret->inputs.ptr) return failed(err, "out of memory");
    ret->inputs.len = 1;
    ret->inputs.ptr[0].tag = WEIR_POLICY_TYPES_INPUT_HEADER;
    cache_key_string_dup(&ret->inputs.ptr[0].val.header, "user-agent");
    ret->pure = true;
    return true;
}

bool exports_weir_policy_request_hook_on_request(exports_weir_policy_request_hook_request_t *req, exports_weir_policy_request_hook_request_decision_t *ret,
                                                 cache_key_string_t *err) {
    if (req->inputs.len != 1) {
        exports_weir_policy_request_hook_request_free(req);
        return failed(err, "not the inputs that were declared");
    }
    const char *class = class_of(&req->inputs.ptr[0]);
    exports_weir_policy_request_hook_request_free(req);

    memset(ret, 0, sizeof *ret);
    ret->mode = WEIR_POLICY_TYPES_CACHE_MODE_LOOKUP;
    ret->variants.ptr = calloc(1, sizeof *ret->variants.ptr);
    if (!ret->variants.ptr) return failed(err, "out of memory");
    ret->variants.len = 1;
    cache_key_string_dup(&ret->variants.ptr[0], class);
    return true;
}
