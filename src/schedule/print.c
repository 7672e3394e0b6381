#include "schedule/schedule.h"

#include <string.h>

#define DATA_COLUMN_GAP 2

const char *step_kind_name(int kind)
{
    switch (kind) {
    case STEP_SEND:
        return "SEND";
    case STEP_RECV:
        return "RECV";
    case STEP_RECV_SEND:
        return "RECV_SEND";
    case STEP_RECV_REDUCE:
        return "RECV_REDUCE";
    case STEP_RECV_REDUCE_SEND:
        return "RECV_REDUCE_SEND";
    case STEP_COPY:
        return "COPY";
    case STEP_REDUCE:
        return "REDUCE";
    default:
        return "unknown step";
    }
}

const char *chunks_text(int chunk, int chunks, char text[CHUNKS_TEXT_SIZE])
{
    if (chunks == 1)
        snprintf(text, CHUNKS_TEXT_SIZE, "chunk %d", chunk);
    else
        snprintf(text, CHUNKS_TEXT_SIZE, "chunks %d-%d", chunk, chunk + chunks - 1);
    return text;
}

static void print_span(const struct step *step, struct span span, FILE *out)
{
    switch (span.place) {
    case PLACE_SEND:
        fputs("send", out);
        break;
    case PLACE_RECV:
        fputs("recv", out);
        break;
    case PLACE_SCRATCH:
        fprintf(out, "slot %d", span.slot);
        if (step->chunk != span.origin)
            fprintf(out, "+%d", step->chunk - span.origin);
        break;
    default:
        fputs("nowhere", out);
        break;
    }
}

/* "3 op send", or in the other order. */
static void print_received_op_own(const struct step *step, FILE *out)
{
    if (!step->own_first)
        fprintf(out, "%d op ", step->from);
    print_span(step, step->source, out);
    if (step->own_first)
        fprintf(out, " op %d", step->from);
}

/* The way of the data, from left to right; bare numbers are ranks: "3 op send -> recv -> 1". */
static void print_data(const struct schedule *s, const struct step *step, FILE *out)
{
    switch (step->kind) {
    case STEP_SEND:
    case STEP_COPY:
        print_span(step, step->source, out);
        break;
    case STEP_RECV:
    case STEP_RECV_SEND:
        fprintf(out, "%d", step->from);
        break;
    case STEP_RECV_REDUCE:
    case STEP_RECV_REDUCE_SEND:
        print_received_op_own(step, out);
        break;
    default:
        for (int i = 0; i < step->operands; i++) {
            fputs(i > 0 ? " op " : "", out);
            print_span(step, s->operands[step->operand + i], out);
        }
        break;
    }
    if (step->kind != STEP_SEND) {
        fputs(" -> ", out);
        print_span(step, step->target, out);
    }
    if (step_sends(step))
        fprintf(out, " -> %d", step->to);
}

void schedule_print(const struct schedule *s, FILE *out)
{
    char chunks[CHUNKS_TEXT_SIZE];
    int width = 0;
    for (int i = 0; i < s->count; i++) {
        int length = (int)strlen(chunks_text(s->steps[i].chunk, s->steps[i].chunks, chunks));
        width = length > width ? length : width;
    }
    for (int i = 0; i < s->count; i++) {
        const struct step *step = &s->steps[i];
        fprintf(out, "rank %d: %2d %-16s %-*s", s->rank, i, step_kind_name(step->kind),
                width + DATA_COLUMN_GAP, chunks_text(step->chunk, step->chunks, chunks));
        print_data(s, step, out);
        if (step->finish)
            fputs(", finish", out);
        if (step->after >= 0)
            fprintf(out, ", after %d%s", step->after, step->after_slice ? " by slices" : "");
        fputc('\n', out);
    }
}
