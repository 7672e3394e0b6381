/* What a test does to its own process behind the back of the library.  Any thread. */
#ifndef TESTS_PROCESS_HARM_H
#define TESTS_PROCESS_HARM_H

/* "reset", "half_close": all connections, those that listen left out; a Unix socket, which has no reset, is
 * closed both ways.  "reset_rendezvous", "half_close_rendezvous": only those with `rendezvous` ("HOST:PORT"
 * or "unix:@NAME").  "hog": takes all descriptors that are left.  "release": gives them back.  Anything else
 * is ignored. */
void do_harm(const char *harm, const char *rendezvous);

#endif
