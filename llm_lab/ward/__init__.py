"""The patients of lesson 11: one small healthy run, and classic bugs put into it, one a patient."""

from llm_lab.ward import data_bugs, loop_bugs, loss_bugs, model_bugs
from llm_lab.ward.run import DATASET, Patient, TrainingRun

__all__ = ["DATASET", "PATIENTS", "Patient", "TrainingRun"]

PATIENTS = {
    patient.run.__name__: patient
    for patient in (
        Patient(model_bugs.MaskPolarity, "mask upside down"),
        Patient(model_bugs.EmptyRow, "empty row gives NaN"),
        Patient(data_bugs.NoTargets, "batch without a target"),
        Patient(loss_bugs.IgnoredWord, "a word is ignored"),
        Patient(loss_bugs.MeanOfMeans, "mean of means"),
        Patient(data_bugs.SpecialsHidden, "special tokens hidden"),
        Patient(data_bugs.SpecialReplacements, "special tokens as random words"),
        Patient(data_bugs.TwoDraws, "mixture"),
        Patient(data_bugs.SharedMasks, "ranks draw the same masks"),
        Patient(data_bugs.GlobalGenerator, "batches not repeatable"),
        Patient(model_bugs.LayerInForward, "model not repeatable"),
        Patient(loop_bugs.DropoutInEvaluation, "dropout in evaluation"),
        Patient(loop_bugs.FreshEvaluationMasks, "evaluation not repeatable"),
        Patient(loop_bugs.SchedulePerPart, "schedule ends early"),
        Patient(loop_bugs.PastTheEnd, "negative learning rate"),
        Patient(loss_bugs.ScalarMask, "mask times a scalar"),
        Patient(loop_bugs.RateTooHigh, "learning rate too large"),
        Patient(loop_bugs.NeverCleared, "gradients not cleared"),
        Patient(data_bugs.ResumeRepeats, "resume loses its place"),
        Patient(model_bugs.Orphaned, "parameters without optimizer"),
    )
}
