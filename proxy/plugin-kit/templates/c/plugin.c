/* One stored page for German, one for all other languages: visitors whose browsers ask for the same one share it.
 *
 * What is returned is freed by the generated code: texts are copied with cache_key_string_dup, lists come from calloc. */

#include <stdlib.h>
#include <string.h>

#include "cache_key.h"

bool exports_weir_policy_lifecycle_configure(cache_key_string_t *config, exports_weir_policy_lifecycle_manifest_t *ret, cache_key_string_t *err) {
    (void)err;
    cache_key_string_free(config); /* JSON; this plugin needs none of it */
    memset(ret, 0, sizeof *ret);
    cache_key_string_dup(&ret->name, "NAME");
    cache_key_string_dup(&ret->version, "0.1.0");
    /* What is not declared here is not there for the plugin. */
    ret->inputs.ptr = calloc(1, sizeof *ret->inputs.ptr);
    ret->inputs.len = 1;
    ret->inputs.ptr[0].tag = WEIR_POLICY_TYPES_INPUT_HEADER;
    cache_key_string_dup(&ret->inputs.ptr[0].val.header, "accept-language");
    ret->pure = true; /* the same values give the same decision, so it is remembered */
    return true;
}

bool exports_weir_policy_request_hook_on_request(exports_weir_policy_request_hook_request_t *req, exports_weir_policy_request_hook_request_decision_t *ret,
                                                 cache_key_string_t *err) {
    (void)err;
    const cache_key_option_string_t *wanted = &req->inputs.ptr[0];
    bool german = wanted->is_some && wanted->val.len >= 2 && memcmp(wanted->val.ptr, "de", 2) == 0;
    exports_weir_policy_request_hook_request_free(req);

    memset(ret, 0, sizeof *ret);
    ret->mode = WEIR_POLICY_TYPES_CACHE_MODE_LOOKUP;
    ret->variants.ptr = calloc(1, sizeof *ret->variants.ptr);
    ret->variants.len = 1;
    cache_key_string_dup(&ret->variants.ptr[0], german ? "language=de" : "language=en");
    return true;
}
