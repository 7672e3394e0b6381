#include "schedule/schedule.h"

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

static const char *span_text(struct span span, char text[16])
{
    switch (span.place) {
    case PLACE_SEND:
        return "send";
    case PLACE_RECV:
        return "recv";
    case PLACE_SCRATCH:
        snprintf(text, 16, "slot %d", span.slot);
        return text;
    default:
        return "nowhere";
    }
}

/* The way of the data, from left to right; numbers are ranks: "3 op send -> recv". */
static void data_text(const struct step *step, char *text, size_t text_size)
{
    char source[16], other[16], target[16];
    switch (step->kind) {
    case STEP_SEND:
        snprintf(text, text_size, "%s", span_text(step->source, source));
        break;
    case STEP_RECV:
    case STEP_RECV_SEND:
        snprintf(text, text_size, "%d -> %s", step->from, span_text(step->target, target));
        break;
    case STEP_RECV_REDUCE:
    case STEP_RECV_REDUCE_SEND:
        snprintf(text, text_size, "%d op %s -> %s", step->from, span_text(step->source, source),
                 span_text(step->target, target));
        break;
    case STEP_COPY:
        snprintf(text, text_size, "%s -> %s", span_text(step->source, source),
                 span_text(step->target, target));
        break;
    default:
        snprintf(text, text_size, "%s op %s -> %s", span_text(step->source, source),
                 span_text(step->other, other), span_text(step->target, target));
        break;
    }
}

void schedule_print(const struct schedule *s, FILE *out)
{
    for (int i = 0; i < s->count; i++) {
        const struct step *step = &s->steps[i];
        char data[64];
        data_text(step, data, sizeof data);
        fprintf(out, "rank %d: %2d %-16s chunk %d  %s", s->rank, i, step_kind_name(step->kind), step->chunk,
                data);
        if (step_sends(step))
            fprintf(out, " -> %d", step->to);
        if (step->finish)
            fprintf(out, ", finish");
        if (step->after >= 0)
            fprintf(out, ", after %d", step->after);
        fputc('\n', out);
    }
}
