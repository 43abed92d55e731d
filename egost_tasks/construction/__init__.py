"""Builds a benchmark of the same kind from first-person videos: paper, section 3.2 and figures 2 to 4.

    egost construct clips SPEC OUT            cut and unify the videos
    egost construct annotate OUT              tell the routes, or --import FILE
    egost construct questions OUT             routes by template, three kinds of choices by a writer
    egost construct calibrate OUT             drop or review what is no good question
    egost construct review OUT                decide on what is in doubt, then calibrate again
    egost construct publish OUT RELEASE       the official layout, with a data card

The working folder OUT holds one file or folder for each thing that a step leaves to the next:

    clips/NAME.mp4                   the cut clips: H.264, yuv420p, no sound
    clips.jsonl                      a `workfolder.ClipRow` a line, in the order of the spec
    lengths.png                      lengths and sources, as figure 4 has them
    annotations/ANNOTATOR/CLIP.json  an `annotations.Annotation` each
    questions.jsonl                  a `drafts.Draft` a line, with where it comes from
    writing.json                     the writer, what it left out and why, what it cost
    replies/writer/, replies/judge/  replies of servers, a file each; what was paid for is not asked again
    calibration.json                 the report: checks of single drafts and of the whole set
    dropped.jsonl                    drafts that cannot be published, with the reasons
    kept.jsonl                       drafts that passed, as they are to be published
    review.jsonl                     drafts for a person to decide on: verdict null, `accept`, `edit` or `reject`

Every file appears whole or not at all (write beside, then rename), and a step that was killed goes on with what is
there and ends with the same result. A step reads only what the steps before it left, so each can be run again alone.
"""
