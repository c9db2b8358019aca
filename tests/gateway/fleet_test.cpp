// Which of many backends a request may go to.
#include "gateway/fleet.hpp"

#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tidemill::gateway {
namespace {

// Two hundred, of which b7, b57, b107 and b157 alone serve "rare".
class ManyBackends : public testing::Test {
 protected:
  ManyBackends() {
    for (int i = 0; i < 200; ++i) {
      all_.push_back(std::make_shared<Backend>(BackendOptions{.url = "http://127.0.0.1:1",
                                                              .name = "b" + std::to_string(i),
                                                              .models = {i % 50 == 7 ? "rare" : "common"}},
                                               metrics_));
    }
    fleet_.replace(all_);
    wanted_.model = "rare";
  }
  // The names of those that are picked one after the other, until nobody is left.
  std::set<std::string> picked() {
    std::set<std::string> names;
    std::vector<const Backend*> tried;
    while (true) {
      auto lease = fleet_.pick(wanted_, tried);
      if (!lease) {
        EXPECT_EQ(lease.error().message(), "no further backend can be asked");
        return names;
      }
      EXPECT_TRUE(names.insert((*lease)->name()).second) << "a second time";
      tried.push_back(&**lease);
      lease->end(Outcome::answered);
    }
  }

  observe::Metrics metrics_;
  base::ManualClock clock_;
  Fleet fleet_{clock_, 16};
  Fleet::Backends all_;
  Wanted wanted_;
};

TEST_F(ManyBackends, ThoseThatServeTheModelAreAsked) {
  EXPECT_EQ(picked(), (std::set<std::string>{"b7", "b57", "b107", "b157"}));
  wanted_.model.clear();
  EXPECT_EQ(picked().size(), 200U);
}

TEST_F(ManyBackends, OfTheNamesThatAreListed) {
  const std::vector<std::string> names{"b57", "b15*", "b8"};
  wanted_.backends = &names;
  EXPECT_EQ(picked(), (std::set<std::string>{"b57", "b157"}));
}

TEST_F(ManyBackends, NamesOfWhichThereIsNoneAreNotTakenForAMissingModel) {
  const std::vector<std::string> names{"gpu-*"};
  wanted_.backends = &names;
  const auto lease = fleet_.pick(wanted_, {});
  ASSERT_FALSE(lease);
  EXPECT_EQ(lease.error().code(), base::ErrorCode::not_found);
  EXPECT_NE(lease.error().message().find("no backend of the names"), std::string::npos) << lease.error().message();
}

TEST_F(ManyBackends, WhyNobodyCanBeAskedIsToldOfThese) {
  for (const auto& backend : all_) {
    if (backend->serves("rare")) fleet_.note_unready(*backend, route::Unready::draining, clock_.now());
  }
  const auto lease = fleet_.pick(wanted_, {});
  ASSERT_FALSE(lease);
  EXPECT_EQ(lease.error().message(),
            "no backend can be used: of 4, 0 tried already, 0 loading, 4 draining, 0 full, 0 failing");
}

}  // namespace
}  // namespace tidemill::gateway
