// The settings of mtaw_fast/config/groups.py; tests/bundle/test_settings.py prints the table.
#pragma once

namespace mtaw {

enum class SettingKind { flag, whole, number, text };

// low, high: of a number, both included. choices: of a text, between bars; empty for any.
struct SettingRule {
    const char *group, *name;
    SettingKind kind;
    double standard, low, high;
    const char* choices;
};

// clang-format off
constexpr SettingRule kSettingRules[] = {
    {"model", "embedding_dim", SettingKind::whole, 100, 1, 16384, ""},
    {"model", "max_positions", SettingKind::whole, 512, 1, 2147483647, ""},
    {"model", "max_session_length", SettingKind::whole, 512, 1, 512, ""},
    {"model", "scale", SettingKind::number, 16, 4.9406564584124654e-324, 40, ""},
    {"model", "dropout", SettingKind::number, 0.050000000000000003, 0, 0.99999999999999989, ""},
    {"model", "init", SettingKind::text, 0, 0, 0, "structured|uniform"},
    {"model", "spectral_share", SettingKind::number, 0.65000000000000002, 0, 1, ""},
    {"model", "itl_gain", SettingKind::number, 80, 0, 1.7976931348623157e+308, ""},
    {"model", "iel_gain", SettingKind::number, 6, 0, 1.7976931348623157e+308, ""},
    {"model", "recent_weight", SettingKind::number, 0, 0, 100, ""},
    {"model", "recent_decay", SettingKind::number, 0.5, 0.01, 0.98999999999999999, ""},
    {"model", "text_model", SettingKind::text, 0, 0, 0, ""},
    {"loss", "gamma", SettingKind::number, 2, 0, 1.7976931348623157e+308, ""},
    {"loss", "negative_term", SettingKind::flag, 0, 0, 0, ""},
    {"loss", "targets", SettingKind::text, 0, 0, 0, "all|new"},
    {"loss", "type_weights", SettingKind::text, 0, 0, 0, ""},
    {"loss", "loss_backend", SettingKind::text, 0, 0, 0, "auto|reference|chunked|native|triton"},
    {"loss", "softmax", SettingKind::text, 0, 0, 0, "auto|full|sampled"},
    {"loss", "negative_samples", SettingKind::whole, 4096, 1, 2147483647, ""},
    {"loss", "cooccurrence_negatives", SettingKind::whole, 4, 0, 2147483647, ""},
    {"loss", "compute_dtype", SettingKind::text, 0, 0, 0, "auto|float32|bfloat16"},
    {"optimizer", "lr", SettingKind::number, 0.002, 4.9406564584124654e-324, 1.7976931348623157e+308, ""},
    {"optimizer", "weight_decay", SettingKind::number, 0, 0, 1.7976931348623157e+308, ""},
    {"optimizer", "schedule", SettingKind::text, 0, 0, 0, "cosine|constant"},
    {"optimizer", "warmup_epochs", SettingKind::number, 0.10000000000000001, 0, 1.7976931348623157e+308, ""},
    {"optimizer", "batch_prefixes", SettingKind::whole, 1024, 1, 2147483647, ""},
    {"optimizer", "batches", SettingKind::text, 0, 0, 0, "sessions|random-sessions|prefixes"},
    {"optimizer", "clip_norm", SettingKind::number, 5, 0, 1.7976931348623157e+308, ""},
    {"optimizer", "train_step", SettingKind::text, 0, 0, 0, "auto|eager|cuda-graph"},
    {"optimizer", "epochs", SettingKind::whole, 3, 1, 2147483647, ""},
    {"optimizer", "patience", SettingKind::whole, 2, 0, 2147483647, ""},
    {"optimizer", "validation_fraction", SettingKind::number, 0.02, 4.9406564584124654e-324, 0.99999999999999989, ""},
    {"optimizer", "seed", SettingKind::whole, 0, 0, 2147483647, ""},
    {"memory", "enabled", SettingKind::flag, 0, 0, 0, ""},
    {"memory", "window", SettingKind::whole, 10, 1, 2147483647, ""},
    {"memory", "span", SettingKind::whole, 40, 1, 2147483647, ""},
    {"memory", "recency", SettingKind::number, 0.10000000000000001, 4.9406564584124654e-324, 1.7976931348623157e+308, ""},
    {"memory", "max_neighbors", SettingKind::whole, 512, 0, 2147483647, ""},
    {"memory", "max_postings", SettingKind::whole, 500, 0, 2147483647, ""},
    {"memory", "cooccurrence_candidates", SettingKind::whole, 80, 1, 65536, ""},
    {"memory", "dense_candidates", SettingKind::whole, 50, 0, 1000, ""},
    {"memory", "trends", SettingKind::flag, 1, 0, 0, ""},
    {"memory", "half_lives", SettingKind::text, 0, 0, 0, ""},
    {"memory", "trend_candidates", SettingKind::whole, 140, 1, 1000, ""},
    {"memory", "ranked_candidates", SettingKind::whole, 92, 0, 65536, ""},
    {"ranker", "ranker_fraction", SettingKind::number, 0.25, 4.9406564584124654e-324, 0.99999999999999989, ""},
    {"ranker", "ranker_epochs", SettingKind::whole, 0, 0, 2147483647, ""},
    {"ranker", "ranker_lr", SettingKind::number, 0, 0, 1.7976931348623157e+308, ""},
    {"ranker", "ranker_samples", SettingKind::whole, 150000, 1, 2147483647, ""},
    {"ranker", "prequential", SettingKind::flag, 1, 0, 0, ""},
    {"ranker", "prequential_chunk", SettingKind::whole, 256, 1, 2147483647, ""},
    {"ranker", "prequential_seconds", SettingKind::number, 60, 0.001, 1000000000, ""},
    {"ranker", "excluded_features", SettingKind::text, 0, 0, 0, ""},
    {"ranker", "event_types", SettingKind::flag, 1, 0, 0, ""},
};
// clang-format on

}  // namespace mtaw
