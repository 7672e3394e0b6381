/* Which addresses a specification chooses.  What the host has is read here with getifaddrs() as well, so that
 * the tests hold on any host that has a loopback interface with 127.0.0.1. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "transport/interface.h"

#define ADDRESSES_MAX 64

struct found {
    struct sockaddr_storage list[ADDRESSES_MAX];
    int count; /* or a negative status */
    struct tutti_error error;
};

static struct ifaddrs *interfaces;
static char loopback[IF_NAMESIZE];

static bool is_ip(const struct sockaddr *address)
{
    return address && (address->sa_family == AF_INET || address->sa_family == AF_INET6);
}

static const char *print(const struct sockaddr *address, char text[INET6_ADDRSTRLEN])
{
    const void *bytes = address->sa_family == AF_INET6
                            ? (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr
                            : (const void *)&((const struct sockaddr_in *)address)->sin_addr;
    assert_non_null(inet_ntop(address->sa_family, bytes, text, INET6_ADDRSTRLEN));
    return text;
}

static bool is_link_local(const struct sockaddr *address)
{
    char text[INET6_ADDRSTRLEN];
    print(address, text);
    return strncmp(text, "169.254.", 8) == 0 || strncmp(text, "fe8", 3) == 0 ||
           strncmp(text, "fe9", 3) == 0 || strncmp(text, "fea", 3) == 0 || strncmp(text, "feb", 3) == 0;
}

static int find_loopback(void **state)
{
    (void)state;
    assert_int_equal(getifaddrs(&interfaces), 0);
    for (const struct ifaddrs *i = interfaces; i; i = i->ifa_next)
        if (is_ip(i->ifa_addr) && i->ifa_addr->sa_family == AF_INET && (i->ifa_flags & IFF_LOOPBACK))
            snprintf(loopback, sizeof loopback, "%s", i->ifa_name);
    return loopback[0] == '\0'; /* without a loopback interface nothing here means anything */
}

static int forget_interfaces(void **state)
{
    (void)state;
    freeifaddrs(interfaces);
    return 0;
}

static struct found look(const char *spec)
{
    struct found found = {.error = TUTTI_ERROR_INIT};
    found.count = interface_addresses(spec, found.list, ADDRESSES_MAX, &found.error);
    return found;
}

static bool contains(const struct found *found, const struct sockaddr *address)
{
    char wanted[INET6_ADDRSTRLEN], text[INET6_ADDRSTRLEN];
    print(address, wanted);
    for (int i = 0; i < found->count; i++)
        if (strcmp(print((const struct sockaddr *)&found->list[i], text), wanted) == 0)
            return true;
    return false;
}

static bool contains_text(const struct found *found, const char *wanted)
{
    char text[INET6_ADDRSTRLEN];
    for (int i = 0; i < found->count; i++)
        if (strcmp(print((const struct sockaddr *)&found->list[i], text), wanted) == 0)
            return true;
    return false;
}

/* `found` is exactly what `fits` says of the addresses that are up and not link-local. */
static void check_exactly(const struct found *found, bool (*fits)(const struct ifaddrs *entry))
{
    int expected = 0;
    for (const struct ifaddrs *i = interfaces; i; i = i->ifa_next) {
        if (!is_ip(i->ifa_addr) || !(i->ifa_flags & IFF_UP))
            continue;
        bool wanted = fits(i) && !is_link_local(i->ifa_addr);
        assert_int_equal(contains(found, i->ifa_addr), wanted);
        expected += wanted;
    }
    assert_int_equal(found->count > 0 ? found->count : 0, expected);
    assert_int_equal(found->count < 0, expected == 0);
}

/* ERR_CONFIG that shows the specification and what there is to choose from. */
static void check_nothing_fits(const char *spec)
{
    struct found found = look(spec);
    if (found.count != TUTTI_ERR_CONFIG)
        fail_msg("'%s' gave %d", spec, found.count);
    assert_int_equal(found.error.code, TUTTI_ERR_CONFIG);
    assert_non_null(strstr(found.error.message, spec));
    assert_non_null(strstr(found.error.message, loopback));
    assert_non_null(strstr(found.error.message, "127.0.0.1"));
}

static bool not_loopback(const struct ifaddrs *entry)
{
    return !(entry->ifa_flags & IFF_LOOPBACK);
}

static bool on_loopback(const struct ifaddrs *entry)
{
    return strcmp(entry->ifa_name, loopback) == 0;
}

static bool anything(const struct ifaddrs *entry)
{
    return entry != NULL;
}

static bool is_v4(const struct ifaddrs *entry)
{
    return entry->ifa_addr->sa_family == AF_INET;
}

static void without_a_specification_everything_but_loopback_is_chosen(void **state)
{
    (void)state;
    static const char *const specs[] = {NULL, "", ","};
    for (size_t i = 0; i < 3; i++) {
        struct found found = look(specs[i]);
        check_exactly(&found, not_loopback);
        if (found.count < 0)
            assert_non_null(strstr(found.error.message, "127.0.0.1"));
    }
}

static void the_loopback_interface_can_be_chosen_by_its_name(void **state)
{
    (void)state;
    struct found found = look(loopback);
    check_exactly(&found, on_loopback);
    assert_true(contains_text(&found, "127.0.0.1"));
    for (int i = 0; i < found.count; i++)
        assert_true(address_is_loopback((const struct sockaddr *)&found.list[i]));
}

static void every_interface_can_be_chosen_by_its_name(void **state)
{
    (void)state;
    for (const struct ifaddrs *i = interfaces; i; i = i->ifa_next)
        if (is_ip(i->ifa_addr) && (i->ifa_flags & IFF_UP) && !is_link_local(i->ifa_addr)) {
            struct found found = look(i->ifa_name);
            assert_true(found.count > 0);
            assert_true(contains(&found, i->ifa_addr));
            assert_int_equal(contains_text(&found, "127.0.0.1"), strcmp(i->ifa_name, loopback) == 0);
        }
}

static void a_list_with_empty_items_is_the_list_without_them(void **state)
{
    (void)state;
    char spec[64];
    snprintf(spec, sizeof spec, ",,no-such-nic,%s,,", loopback);
    struct found found = look(spec);
    check_exactly(&found, on_loopback);
}

static void exclusions_alone_leave_everything_else_but_loopback(void **state)
{
    (void)state;
    char spec[64];
    snprintf(spec, sizeof spec, "^%s", loopback);
    struct found found = look(spec);
    check_exactly(&found, not_loopback);
    found = look("^no-such-nic");
    check_exactly(&found, not_loopback);
}

static void each_interface_can_be_excluded_by_its_name(void **state)
{
    (void)state;
    char spec[64];
    for (const struct ifaddrs *i = interfaces; i; i = i->ifa_next) {
        if (!is_ip(i->ifa_addr))
            continue;
        snprintf(spec, sizeof spec, "0.0.0.0/0,::/0,^%s", i->ifa_name);
        struct found found = look(spec);
        assert_false(contains(&found, i->ifa_addr));
    }
}

static void an_exclusion_wins_wherever_it_stands(void **state)
{
    (void)state;
    char spec[64];
    snprintf(spec, sizeof spec, "%s,^%s", loopback, loopback);
    check_nothing_fits(spec);
    snprintf(spec, sizeof spec, "^%s,%s", loopback, loopback);
    check_nothing_fits(spec);
    check_nothing_fits("127.0.0.0/8,^127.0.0.0/8");
    check_nothing_fits("^127.0.0.0/9,127.0.0.0/8");
}

static void a_cidr_chooses_by_address(void **state)
{
    (void)state;
    static const char *const with[] = {"127.0.0.0/8",  "127.0.0.1/32", "127.0.0.0/31", "126.0.0.0/7",
                                       "127.0.0.0/15", "0.0.0.0/1",    "127.1.2.3/8"};
    static const char *const without[] = {"127.0.0.0/32", "127.0.0.2/31",  "124.0.0.0/7",
                                          "128.0.0.0/1",  "127.128.0.0/9", "::/0"};
    for (size_t i = 0; i < sizeof with / sizeof with[0]; i++) {
        struct found found = look(with[i]);
        if (!contains_text(&found, "127.0.0.1"))
            fail_msg("%s should hold 127.0.0.1", with[i]);
    }
    for (size_t i = 0; i < sizeof without / sizeof without[0]; i++) {
        struct found found = look(without[i]);
        if (contains_text(&found, "127.0.0.1"))
            fail_msg("%s should not hold 127.0.0.1", without[i]);
    }
    check_nothing_fits("127.0.0.0/32");
}

static void a_prefix_of_length_0_chooses_its_whole_family(void **state)
{
    (void)state;
    struct found found = look("0.0.0.0/0");
    check_exactly(&found, is_v4);
    found = look("0.0.0.0/0,::/0");
    check_exactly(&found, anything);
}

static void a_cidr_of_version_6_chooses_addresses_of_version_6(void **state)
{
    (void)state;
    struct in6_addr one = IN6ADDR_LOOPBACK_INIT;
    bool there = false;
    for (const struct ifaddrs *i = interfaces; i; i = i->ifa_next)
        if (is_ip(i->ifa_addr) && i->ifa_addr->sa_family == AF_INET6)
            there = there || memcmp(&((struct sockaddr_in6 *)i->ifa_addr)->sin6_addr, &one, 16) == 0;
    static const char *const with[] = {"::1/128", "::/127", "::/0", "0::/64"};
    for (size_t i = 0; i < 4; i++) {
        struct found found = look(with[i]);
        assert_int_equal(contains_text(&found, "::1"), there);
        assert_false(contains_text(&found, "127.0.0.1"));
    }
    check_nothing_fits("::2/128");
}

static void a_malformed_cidr_matches_nothing_and_the_error_lists_the_interfaces(void **state)
{
    (void)state;
    static const char *const malformed[] = {
        "127.0.0.0/33",
        "127.0.0.0/-1",
        "127.0.0.0/+8",
        "127.0.0.0/",
        "127.0.0.0/8x",
        "127.0.0.0/ 8",
        "127.0.0.0/8/8",
        "127.0.0.0/99999999999999999999",
        "127.0.0.0/eight",
        "127.0.0/8",
        "127.0.0.0.0/8",
        "327.0.0.0/8",
        " 127.0.0.0/8",
        "/8",
        "/",
        "127.0.0.1",
        "::1/129",
        ":::1/128",
        "127.0.0.0000000000000000000000000000000000000000000000000/8",
        "*",
        "lo0,127.0.0.1:80/8",
    };
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++)
        check_nothing_fits(malformed[i]);
}

static void a_malformed_exclusion_excludes_nothing(void **state)
{
    (void)state;
    char spec[64];
    snprintf(spec, sizeof spec, "%s,^127.0.0.0/33,^/8,^", loopback);
    struct found found = look(spec);
    check_exactly(&found, on_loopback);
}

static void no_more_addresses_are_written_than_there_is_room_for(void **state)
{
    (void)state;
    struct sockaddr_storage two[2];
    struct tutti_error error = TUTTI_ERROR_INIT;
    memset(two, 0x5a, sizeof two);
    assert_int_equal(interface_addresses("0.0.0.0/0,::/0", two, 1, &error), 1);
    const unsigned char *second = (const unsigned char *)&two[1];
    for (size_t i = 0; i < sizeof two[1]; i++)
        assert_int_equal(second[i], 0x5a);
}

static void loopback_is_told_by_address_and_by_name(void **state)
{
    (void)state;
    static const char *const names[] = {"localhost", "127.0.0.1", "127.1.2.3", "::1"};
    static const char *const others[] = {"128.0.0.1", "12.7.0.1", "::2", "localhost.example", "node1", ""};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_true(name_is_loopback(names[i]));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(name_is_loopback(others[i]));
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7fffffff)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    assert_true(address_is_loopback((const struct sockaddr *)&v4));
    assert_true(address_is_loopback((const struct sockaddr *)&v6));
    v4.sin_addr.s_addr = htonl(0x80000000);
    v6.sin6_addr.s6_addr[15] = 2;
    assert_false(address_is_loopback((const struct sockaddr *)&v4));
    assert_false(address_is_loopback((const struct sockaddr *)&v6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_specification_everything_but_loopback_is_chosen),
        cmocka_unit_test(the_loopback_interface_can_be_chosen_by_its_name),
        cmocka_unit_test(every_interface_can_be_chosen_by_its_name),
        cmocka_unit_test(a_list_with_empty_items_is_the_list_without_them),
        cmocka_unit_test(exclusions_alone_leave_everything_else_but_loopback),
        cmocka_unit_test(each_interface_can_be_excluded_by_its_name),
        cmocka_unit_test(an_exclusion_wins_wherever_it_stands),
        cmocka_unit_test(a_cidr_chooses_by_address),
        cmocka_unit_test(a_prefix_of_length_0_chooses_its_whole_family),
        cmocka_unit_test(a_cidr_of_version_6_chooses_addresses_of_version_6),
        cmocka_unit_test(a_malformed_cidr_matches_nothing_and_the_error_lists_the_interfaces),
        cmocka_unit_test(a_malformed_exclusion_excludes_nothing),
        cmocka_unit_test(no_more_addresses_are_written_than_there_is_room_for),
        cmocka_unit_test(loopback_is_told_by_address_and_by_name),
    };
    return cmocka_run_group_tests(tests, find_loopback, forget_interfaces);
}
