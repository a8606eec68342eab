"""Items of reporting checklists, in our own short words, and the answers to them.

CLAIM 2024: Tejani et al., Radiol Artif Intell 2024, https://doi.org/10.1148/ryai.240300.
TRIPOD+AI: Collins et al., BMJ 2024, https://doi.org/10.1136/bmj-2023-078378.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One item of a checklist.

    Fields:
        number: as in the checklist.
        asks: what it asks for, in short.
        answer: name of the software's answer; empty if only the authors know it.
        lacks: what the authors have to add to that answer; empty if nothing.
    """

    number: str
    asks: str
    answer: str = ""
    lacks: str = ""


CLAIM_2024 = (
    Item("1", "Title or abstract: a study of AI, and of what kind", "technology"),
    Item("2", "Structured summary"),
    Item("3", "Background, intended use and role", "intended_use", "background and clinical role"),
    Item("4", "Aims and hypotheses"),
    Item("5", "Prospective or retrospective"),
    Item("6", "Goal of the study"),
    Item("7", "Data sources", "sources", "how, where and when the data were collected"),
    Item("8", "Inclusion and exclusion", "flow", "criteria before the data reached the software"),
    Item("9", "Preprocessing", "preprocessing"),
    Item("10", "Selection of parts of the data", "parts"),
    Item("11", "De-identification"),
    Item("12", "Missing data", "missing"),
    Item("13", "Image acquisition", "acquisition", "scanners, protocols, contrast medium"),
    Item("14", "How the reference standard was obtained", "reference", "how, at the source"),
    Item("15", "Why this reference standard"),
    Item("16", "Who annotated"),
    Item("17", "Annotation of the test set"),
    Item("18", "Variability between and within annotators"),
    Item("19", "How data were assigned to partitions", "partition"),
    Item("20", "Level at which partitions are disjoint", "disjoint"),
    Item("21", "Intended sample size", "sizes", "why so many"),
    Item("22", "The model in detail", "model"),
    Item("23", "Software", "software", "hardware, and versions of its dependencies"),
    Item("24", "Initialisation of the weights", "start"),
    Item("25", "Training in detail", "training"),
    Item("26", "How the final model was selected", "selection"),
    Item("27", "Ensembling", "ensembling"),
    Item("28", "Metrics", "metrics", "why these"),
    Item("29", "Uncertainty and significance", "uncertainty"),
    Item("30", "Robustness or sensitivity", "subgroups"),
    Item("31", "Explainability"),
    Item("32", "Evaluation on internal data", "internal"),
    Item("33", "Testing on external data", "external"),
    Item("34", "Registration of a clinical trial"),
    Item("35", "Patients or exams included and excluded", "flow"),
    Item("36", "Characteristics of each partition", "sizes", "age, sex, clinical characteristics"),
    Item("37", "Performance with its uncertainty", "performance"),
    Item("38", "Diagnostic performance with its precision", "diagnostic"),
    Item("39", "Analysis of wrong results"),
    Item("40", "Limitations", "limitations", "those of the study"),
    Item("41", "Implications for practice", "intended_use", "clinical role"),
    Item("42", "Study protocol or further technical details"),
    Item(
        "43", "Availability of software, model and data", "availability", "where they are available"
    ),
    Item("44", "Funding and the role of funders"),
)

TRIPOD_AI = (
    Item("1", "Title: development or evaluation, population and outcome", "technology"),
    Item("2", "Abstract by the checklist for abstracts"),
    Item("3a", "Healthcare context, rationale, existing models"),
    Item("3b", "Target population, purpose, users", "intended_use", "population and care pathway"),
    Item("3c", "Known health inequalities"),
    Item("4", "Objectives"),
    Item("5a", "Sources of data", "sources", "representativeness"),
    Item("5b", "Dates of the data"),
    Item("6a", "Setting and centres"),
    Item("6b", "Eligibility", "flow", "criteria before the data reached the software"),
    Item("6c", "Treatments"),
    Item("7", "Preparation of the data", "preprocessing"),
    Item("8a", "Outcome, how and when assessed", "reference", "how the source assessed it"),
    Item("8b", "Who assessed the outcome, where that takes judgement"),
    Item("8c", "Blinding of the assessment of the outcome"),
    Item("9a", "Choice of predictors", "predictors"),
    Item("9b", "Definition of predictors", "predictors"),
    Item("9c", "Who assessed predictors, where that takes judgement"),
    Item("10", "Sample size", "sizes", "why so many"),
    Item("11", "Missing data", "missing"),
    Item("12a", "How data were used in the analysis", "partition"),
    Item("12b", "Handling of predictors", "preprocessing"),
    Item("12c", "Type of model, building steps, internal validation", "building"),
    Item("12d", "Heterogeneity across clusters", "subgroups", "hospitals and countries"),
    Item("12e", "Measures of performance", "metrics", "why these; clinical utility"),
    Item("12f", "Updating of the model"),
    Item("12g", "How predictions were made in evaluation", "predictions"),
    Item("13", "Class imbalance", "imbalance"),
    Item("14", "Fairness"),
    Item("15", "Output of the model and its thresholds", "output"),
    Item("16", "Differences between development and evaluation data", "external", "setting"),
    Item("17", "Ethical approval"),
    Item("18a", "Funding"),
    Item("18b", "Conflicts of interest"),
    Item("18c", "Protocol"),
    Item("18d", "Registration"),
    Item("18e", "Availability of the data", "availability", "where they are available"),
    Item("18f", "Availability of the code", "availability", "where it is available"),
    Item("19", "Involvement of patients and the public"),
    Item("20a", "Flow of participants", "flow"),
    Item("20b", "Characteristics of participants", "sizes", "age, sex, clinical characteristics"),
    Item("20c", "Evaluation data compared with development data", "sizes", "in other respects"),
    Item("21", "Participants and outcome events in each analysis", "sizes"),
    Item("22", "The full model", "availability"),
    Item("23a", "Performance with intervals, and in subgroups", "performance_by_group"),
    Item("23b", "Heterogeneity of performance across clusters", "subgroups", "hospitals"),
    Item("24", "Results of updating"),
    Item("25", "Interpretation"),
    Item("26", "Limitations", "limitations", "those of the study"),
    Item("27a", "Poor or missing input at use", "poor_input"),
    Item("27b", "What users must do with the input"),
    Item("27c", "Next steps of research"),
)
