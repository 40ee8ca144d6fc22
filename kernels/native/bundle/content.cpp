#include "bundle/content.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "bundle/failure.hpp"
#include "text/json.hpp"

namespace mtaw {
namespace {

bool are_texts(const Json* list) {
    return list != nullptr && list->is(Json::Kind::list) &&
           std::all_of(list->list().begin(), list->list().end(),
                       [](const Json& value) { return value.is(Json::Kind::text); });
}

bool are_numbers(const Json* list) {
    return list != nullptr && list->is(Json::Kind::list) &&
           std::all_of(list->list().begin(), list->list().end(),
                       [](const Json& value) { return std::isfinite(value.number()); });
}

bool is_text(const Json* value) { return value != nullptr && value->is(Json::Kind::text); }

// How many features a column has; -1 if it is damaged.
std::int64_t width_of(const Json& column) {
    if (!is_text(column.find("name")) || !is_text(column.find("kind"))) return -1;
    if (const Json* const labels = column.find("labels"))
        return are_texts(labels) ? static_cast<std::int64_t>(labels->list().size()) : -1;
    if (const Json* const edges = column.find("edges"))
        return are_numbers(edges) ? static_cast<std::int64_t>(edges->list().size()) + 1 : -1;
    const Json* const width = column.find("d");
    return width == nullptr ? 1 : std::clamp<std::int64_t>(width->whole().value_or(-1), -1, 1 << 20);
}

bool is_order(const Json& order) {
    const Json *const categories = order.find("categories"), *const weights = order.find("weights");
    return are_texts(categories) && are_numbers(weights) && is_text(order.find("created")) &&
           weights->list().size() == 2 * categories->list().size() + 1;
}

}  // namespace

void check_content(const TensorFile& file, std::int64_t d) {
    const auto damaged = [&](const std::string& what) {
        return bundle_error(file.bytes().path() + ": the content vectors are damaged (" + what + ")" + kRetrain);
    };
    Json about;
    try {
        about = Json::parse(file.text("about"));
    } catch (const std::invalid_argument& error) {
        throw damaged(error.what());
    }
    if (const Json* const layout = about.find("layout"); layout == nullptr || layout->whole() != 1)
        throw damaged("their layout is not 1");
    const Json *const columns = about.find("columns"), *const prior = about.find("prior_clicks"),
                      *const model = about.find("text_model"), *const order = about.find("order");
    if (columns == nullptr || !columns->is(Json::Kind::list)) throw damaged("columns");
    std::int64_t n_features = 0;
    for (const Json& column : columns->list()) {
        const std::int64_t width = width_of(column);
        if (width < 0) throw damaged("a column");
        n_features += width;
    }
    if (prior == nullptr || !std::isfinite(prior->number()) || about.find("held_out") == nullptr ||
        (model != nullptr && !is_text(model))) {
        throw damaged("prior_clicks, held_out or text_model");
    }
    if (order != nullptr && !order->is(Json::Kind::null) && !is_order(*order)) throw damaged("order");
    file.get<float>("weights", {n_features + 1, d});
}

}  // namespace mtaw
