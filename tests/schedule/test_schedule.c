/* What schedule_new() makes of what an emitter appends: the steps, what they wait for, and their print. */
#include "textbook.h"

#include <stdlib.h>

static struct schedule *schedule_of(schedule_emitter emit)
{
    struct schedule *s = schedule_new(TUTTI_ALL_REDUCE, "test", emit, 0, 4, 0, NULL);
    assert_non_null(s);
    return s;
}

/* Steps of the emitter wait as `after` says: index, or -1; `by_slices` likewise. */
static void assert_waits(schedule_emitter emit, int step, int after, bool by_slices)
{
    struct schedule *s = schedule_of(emit);
    assert_int_equal(s->steps[step].after, after);
    assert_int_equal(s->steps[step].after_slice, by_slices);
    schedule_free(s);
}

/* ---- What is appended -------------------------------------------------------------------------- */

static void emit_empty_ranges(struct schedule *s)
{
    s->chunks = 4;
    schedule_send(s, 1, 4, 0, span_send());
    schedule_mark_finished(s);
    schedule_copy(s, 0, 4, span_send(), span_recv());
    schedule_recv_reduce(s, 1, 2, 0, span_send(), span_recv());
    schedule_mark_own_first(s);
    schedule_mark_finished(s);
    schedule_reduce(s, 0, 0, (struct span[]){span_send(), span_recv()}, 2, span_recv());
}

static void a_step_over_no_chunks_is_left_out_and_marking_it_marks_nothing(void **state)
{
    (void)state;
    struct schedule *s = schedule_of(emit_empty_ranges);
    assert_int_equal(s->count, 1);
    assert_int_equal(s->steps[0].kind, STEP_COPY);
    assert_false(s->steps[0].finish);
    assert_false(s->steps[0].own_first);
    assert_int_equal(s->operand_count, 0);
    schedule_free(s);
}

static void emit_many(struct schedule *s)
{
    s->chunks = 100;
    for (int i = 0; i < 100; i++) {
        const struct span operands[] = {span_send(), span_scratch(i, i), span_recv()};
        schedule_reduce(s, i, 1, operands, 3, span_recv());
    }
}

static void steps_and_operands_are_kept_however_many_there_are(void **state)
{
    (void)state;
    struct schedule *s = schedule_of(emit_many);
    assert_int_equal(s->count, 100);
    for (int i = 0; i < 100; i++) {
        const struct step *step = &s->steps[i];
        assert_int_equal(step->chunk, i);
        assert_int_equal(step->operands, 3);
        assert_int_equal(s->operands[step->operand].place, PLACE_SEND);
        assert_int_equal(s->operands[step->operand + 1].slot, i);
        assert_int_equal(s->operands[step->operand + 1].origin, i);
        assert_int_equal(s->operands[step->operand + 2].place, PLACE_RECV);
    }
    schedule_free(s);
}

static void emit_scratch(struct schedule *s)
{
    s->chunks = 8;
    const struct span operands[] = {span_send(), span_scratch(6, 2)};
    schedule_recv(s, 1, 3, 2, span_scratch(1, 1));
    schedule_reduce(s, 3, 3, operands, 2, span_recv());
}

static void scratch_is_counted_in_slots_and_in_chunks_from_their_origins(void **state)
{
    (void)state;
    struct schedule *s = schedule_of(emit_scratch);
    assert_int_equal(s->scratch_slots, 7);
    assert_int_equal(s->scratch_chunks, 4); /* chunks 2 to 5 of slot 6 */
    schedule_free(s);

    s = schedule_of(textbook_ring_all_reduce);
    assert_int_equal(s->scratch_slots, 0);
    assert_int_equal(s->scratch_chunks, 0);
    schedule_free(s);
}

/* ---- What waits for what ----------------------------------------------------------------------- */

static void emit_same_range(struct schedule *s)
{
    s->chunks = 8;
    schedule_send(s, 1, 2, 3, span_send());
    schedule_recv(s, 1, 2, 3, span_recv());
    schedule_send(s, 1, 2, 3, span_scratch(0, 2));
    schedule_recv(s, 1, 2, 3, span_scratch(0, 2));
    schedule_recv(s, 1, 2, 3, span_scratch(1, 2));
}

static void a_write_waits_slice_by_slice_for_a_send_of_the_same_range(void **state)
{
    (void)state;
    assert_waits(emit_same_range, 1, 0, true); /* input and output may be one */
    assert_waits(emit_same_range, 3, 2, true);
    assert_waits(emit_same_range, 4, -1, false);
}

static void emit_overlaps(struct schedule *s)
{
    s->chunks = 8;
    schedule_send(s, 1, 0, 4, span_recv());
    schedule_send(s, 1, 6, 2, span_recv());
    schedule_recv(s, 1, 3, 2, span_recv());
    schedule_recv(s, 1, 4, 2, span_recv());
    schedule_recv(s, 1, 3, 4, span_recv());
    schedule_recv(s, 1, 6, 1, span_recv());
}

static void a_write_waits_for_the_whole_of_a_send_that_it_overlaps(void **state)
{
    (void)state;
    assert_waits(emit_overlaps, 2, 0, false);
    assert_waits(emit_overlaps, 3, -1, false);
    assert_waits(emit_overlaps, 4, 1, false); /* the later of two */
    assert_waits(emit_overlaps, 5, 1, false);
}

static void emit_chunks_in_turn(struct schedule *s)
{
    s->chunks = 8;
    schedule_recv_send(s, 1, 2, 5, 1, span_scratch(0, 5));
    schedule_recv_send(s, 1, 2, 6, 1, span_scratch(0, 6));
    schedule_recv_send(s, 1, 2, 6, 1, span_scratch(0, 6));
}

static void a_slot_that_held_another_chunk_is_waited_for_whole(void **state)
{
    (void)state;
    assert_waits(emit_chunks_in_turn, 1, 0, false);
    assert_waits(emit_chunks_in_turn, 2, 1, true);
}

static void emit_shifted(struct schedule *s)
{
    s->chunks = 8;
    schedule_send(s, 1, 2, 2, span_scratch(0, 2));
    schedule_recv(s, 1, 2, 2, span_scratch(0, 1));
}

static void the_same_chunks_elsewhere_in_a_slot_are_waited_for_whole(void **state)
{
    (void)state;
    assert_waits(emit_shifted, 1, 0, false);
}

static void emit_copies(struct schedule *s)
{
    s->chunks = 4;
    schedule_send(s, 1, 0, 4, span_send());
    schedule_copy(s, 0, 4, span_send(), span_recv());
    schedule_copy(s, 0, 4, span_send(), span_recv());
    schedule_mark_finished(s);
}

static void a_plain_copy_of_the_input_waits_for_nobody_unless_it_finishes(void **state)
{
    (void)state;
    assert_waits(emit_copies, 1, -1, false);
    assert_waits(emit_copies, 2, 0, true);
}

/* ---- In print ---------------------------------------------------------------------------------- */

static void emit_every_kind(struct schedule *s)
{
    s->chunks = 12;
    const struct span operands[] = {span_scratch(1, 2), span_send(), span_scratch(2, 0), span_recv()};
    schedule_send(s, 1, 0, 3, span_send());
    schedule_recv(s, 2, 3, 1, span_scratch(1, 2));
    schedule_recv_send(s, 2, 3, 4, 8, span_recv());
    schedule_recv_reduce(s, 2, 2, 1, span_scratch(1, 2), span_scratch(1, 2));
    schedule_mark_own_first(s);
    schedule_recv_reduce_send(s, 2, 3, 2, 2, span_send(), span_scratch(1, 2));
    schedule_reduce(s, 2, 2, operands, 4, span_recv());
    schedule_mark_finished(s);
    schedule_copy(s, 0, 3, span_scratch(2, 0), span_recv());
}

static void a_schedule_prints_one_line_a_step_that_reads_from_left_to_right(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    struct schedule *s = schedule_of(emit_every_kind);
    schedule_print(s, out);
    schedule_free(s);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text,
                        "rank 0:  0 SEND             chunks 0-2   send -> 1\n"
                        "rank 0:  1 RECV             chunk 3      2 -> slot 1+1\n"
                        "rank 0:  2 RECV_SEND        chunks 4-11  2 -> recv -> 3\n"
                        "rank 0:  3 RECV_REDUCE      chunk 2      slot 1 op 2 -> slot 1\n"
                        "rank 0:  4 RECV_REDUCE_SEND chunks 2-3   2 op send -> slot 1 -> 3\n"
                        "rank 0:  5 REDUCE           chunks 2-3   slot 1 op send op slot 2+2 op recv -> "
                        "recv, finish, after 0\n"
                        "rank 0:  6 COPY             chunks 0-2   slot 2 -> recv, after 0 by slices\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_over_no_chunks_is_left_out_and_marking_it_marks_nothing),
        cmocka_unit_test(steps_and_operands_are_kept_however_many_there_are),
        cmocka_unit_test(scratch_is_counted_in_slots_and_in_chunks_from_their_origins),
        cmocka_unit_test(a_write_waits_slice_by_slice_for_a_send_of_the_same_range),
        cmocka_unit_test(a_write_waits_for_the_whole_of_a_send_that_it_overlaps),
        cmocka_unit_test(a_slot_that_held_another_chunk_is_waited_for_whole),
        cmocka_unit_test(the_same_chunks_elsewhere_in_a_slot_are_waited_for_whole),
        cmocka_unit_test(a_plain_copy_of_the_input_waits_for_nobody_unless_it_finishes),
        cmocka_unit_test(a_schedule_prints_one_line_a_step_that_reads_from_left_to_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
